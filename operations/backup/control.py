"""platform.control as a file, and back into a topic that was made anew, with the epochs that follow the old ones."""

import base64
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import orjson
from confluent_kafka import Consumer, KafkaException, TopicPartition

from operations.backup.manifest import Topic
from runtime.errors import RefusedError, RetryableError
from runtime.kafka import clients, topics
from runtime.kafka.produce import NewRecord, produce_confirmed
from runtime.settings import KafkaSettings
from schemas.control import TopicFacts, is_relayed
from schemas.topics import CONTROL

_TIMEOUT_S: Final = 15.0
EMPTY_S: Final = 12.0
"""A sink that was stopped is a member of its group until its session ends."""

Records = dict[str, bytes]


def decided(kafka: KafkaSettings) -> Records:
    """What operators decided, by key: policy, devices, settings, marks. Identities of topics are told apart from it."""
    return {key: value for key, (_, value) in topics.read_control(kafka).items() if is_relayed(key)}


def write(path: Path, records: Records) -> None:
    """A line a record. Nobody else may read it: it holds the hashes of tokens."""
    path.touch(mode=0o600)
    with path.open("wb") as file:
        for key, value in sorted(records.items()):
            file.write(orjson.dumps({"key": key, "value": base64.b64encode(value).decode()}) + b"\n")


def read(path: Path) -> Records:
    lines = map(orjson.loads, path.read_bytes().splitlines())
    return {line["key"]: base64.b64decode(line["value"]) for line in lines}


def successors(
    before: Mapping[str, Topic], now: Mapping[str, TopicFacts], ends: Mapping[str, int]
) -> dict[str, TopicFacts]:
    """The identities that must be recorded, of topics that are not known as they must be. Pure.

    A topic that is still the one of the back-up keeps its epoch; one that was made anew gets the next: names of rows
    hold epochs, and no two rows may have one name. `ends`: records in each topic. Raises RefusedError where a topic was
    made anew and services wrote into it already, under an epoch that means other rows.
    """
    found = {}
    for name, old in before.items():
        if name not in now:
            continue
        facts = now[name]
        epoch = old.epoch if facts.topic_id == old.topic_id else max(facts.epoch, old.epoch + 1)
        if facts.partitions != old.partitions:
            raise RefusedError(f"{name} has {facts.partitions} partitions, in the back-up {old.partitions}: make it so")
        if epoch == facts.epoch:
            continue
        if facts.topic_id != old.topic_id and name != CONTROL and ends.get(name, 0):
            raise RefusedError(
                f"{name} was made anew and holds records of epoch {facts.epoch} already: services ran before the"
                " restore. Stop them, delete the telemetry and state topics, let `millrace init` make them, and restore"
            )
        found[name] = replace(facts, epoch=epoch)
    return found


def restore(kafka: KafkaSettings, records: Records, new: Mapping[str, TopicFacts]) -> None:
    """Write what operators decided, then the identities."""
    produce_confirmed(kafka, (NewRecord(CONTROL, value, key=key) for key, value in records.items()))
    topics.record(kafka, new)


def bounds(kafka: KafkaSettings, facts: Mapping[str, TopicFacts]) -> dict[tuple[str, int], tuple[int, int]]:
    """First offset kept and next offset of each partition of telemetry topics."""
    consumer = clients.consumer(kafka, clients.READER)
    try:
        return dict(_bounds(consumer, facts))
    finally:
        consumer.close()


def _bounds(consumer: Consumer, facts: Mapping[str, TopicFacts]) -> Iterator[tuple[tuple[str, int], tuple[int, int]]]:
    for name, fact in facts.items():
        for partition in range(fact.partitions):
            try:
                yield (name, partition), consumer.get_watermark_offsets(TopicPartition(name, partition), _TIMEOUT_S)
            except KafkaException as error:
                raise RetryableError(f"cannot read the ends of {name}: {error.args[0].str()}") from error


def lost(
    before: Mapping[str, Topic], now: Mapping[str, TopicFacts], ends: Mapping[tuple[str, int], tuple[int, int]]
) -> list[str]:
    """What Kafka no longer holds of what came after the back-up. Pure; empty when all of it can be read again."""
    found = []
    for name, old in before.items():
        for partition in range(old.partitions) if (name, 0) in ends else ():
            epoch, offset = old.read_on.get(partition, (old.epoch, 0))
            offset = offset if epoch == old.epoch else 0
            low = ends[name, partition][0]
            if now[name].topic_id != old.topic_id:
                found.append(f"{name}[{partition}]: the topic was made anew: what was from offset {offset} on is lost")
            elif low > offset:
                found.append(f"{name}[{partition}]: offsets {offset} to {low - 1} are lost: retention took them")
    return found


def forget_commits(kafka: KafkaSettings, group: str) -> None:
    """Delete the sink's commits, so that it goes on where the restored ledger ends. Waits until no sink runs."""
    admin, deadline = clients.admin(kafka), time.monotonic() + EMPTY_S
    while True:
        try:
            admin.delete_consumer_groups([group], request_timeout=_TIMEOUT_S)[group].result(_TIMEOUT_S)
            return
        except KafkaException as error:
            if error.args[0].name() == "GROUP_ID_NOT_FOUND":
                return
            if time.monotonic() > deadline or error.args[0].name() != "NON_EMPTY_GROUP":
                raise RefusedError(
                    f"the commits of group {group} cannot be deleted: {error.args[0].str()}. A sink that runs would"
                    " write into the tables that are restored: stop every sink first"
                ) from None
            time.sleep(0.5)
