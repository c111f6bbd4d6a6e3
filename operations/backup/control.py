"""platform.control as a file, and back, also into a topic that was created again, with the next epochs."""

import base64
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import orjson
from confluent_kafka import KafkaException

from control import log
from control.log import Change, NewDecision, View
from operations.backup.manifest import Topic
from runtime.errors import RefusedError
from runtime.kafka import clients, topics
from runtime.kafka.log import LogReader
from runtime.settings import KafkaSettings
from schemas.control import ANY, FORMAT_HEADER, FORMER_HEADER, TopicFacts, device_of, is_relayed
from schemas.topics import CONTROL

_TIMEOUT_S: Final = 15.0
EMPTY_S: Final = 12.0
"""A sink that was stopped is a member of its group until its session ends."""

Records = dict[str, bytes]


def decided(kafka: KafkaSettings) -> Records:
    """What operators decided, by key: policy, devices, settings, marks. Identities of topics are not in it."""
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
    """The identities that must be recorded, of topics that are recorded otherwise. Pure.

    A topic that is still the one of the backup keeps its epoch; one that was created again gets the next: names of
    rows hold epochs, and no two rows may have one name. `ends`: records in each topic. Raises RefusedError where
    services wrote already into a topic that was created again, under an epoch that means other rows.
    """
    found = {}
    for name, old in before.items():
        if name not in now:
            continue
        facts = now[name]
        epoch = old.epoch if facts.topic_id == old.topic_id else max(facts.epoch, old.epoch + 1)
        if facts.partitions != old.partitions:
            raise RefusedError(
                f"{name} has {facts.partitions} partitions, in the backup {old.partitions}: create it again with as"
                " many"
            )
        if epoch == facts.epoch:
            continue
        if facts.topic_id != old.topic_id and name != CONTROL and ends.get(name, 0):
            raise RefusedError(
                f"{name} was created again and holds records of epoch {facts.epoch} already: services ran before the"
                " restore. Stop them, delete the telemetry and state topics, let `millrace init` make them, and restore"
            )
        found[name] = replace(facts, epoch=epoch)
    return found


def restore(kafka: KafkaSettings, records: Records, new: Mapping[str, TopicFacts]) -> int:
    """Write what operators decided, in one transaction, then the identities of topics; the number of records that are
    in force. Doing it again changes nothing. Raises RetryableError."""
    keys = {key.encode() for key in records}

    def decide(view: View) -> Change[None]:
        return Change([_decision(key, value) for key, value in records.items() if not _holds(view, key, value)], None)

    log.change(kafka, lambda key, _: key in keys, decide)
    topics.record(kafka, new)
    return len(records)


def _holds(view: View, key: str, value: bytes) -> bool:
    found = view.get(key)
    return found is not None and found.value() == value and FORMAT_HEADER in log.headers_of(found)


def _decision(key: str, value: bytes) -> NewDecision:
    """Which parents a device had before is not in the backup: its record goes to every partition that may know."""
    return NewDecision(key, value, [(FORMER_HEADER, ANY.encode())] if device_of(key) is not None else [])


def bounds(kafka: KafkaSettings, facts: Mapping[str, TopicFacts]) -> dict[tuple[str, int], tuple[int, int]]:
    """First offset kept and next offset of each partition of telemetry topics."""
    with LogReader(kafka) as reader:
        return {
            (name, partition): reader.bounds(name, partition)
            for name, fact in facts.items()
            for partition in range(fact.partitions)
        }


def lost(
    before: Mapping[str, Topic], now: Mapping[str, TopicFacts], ends: Mapping[tuple[str, int], tuple[int, int]]
) -> list[str]:
    """What Kafka no longer holds of what came after the backup. Pure; empty when all of it can be read again."""
    found = []
    for name, old in before.items():
        for partition in range(old.partitions) if (name, 0) in ends else ():
            epoch, offset = old.read_on.get(partition, (old.epoch, 0))
            offset = offset if epoch == old.epoch else 0
            low = ends[name, partition][0]
            if now[name].topic_id != old.topic_id:
                found.append(
                    f"{name}[{partition}]: the topic was created again: what was from offset {offset} on is lost"
                )
            elif low > offset:
                found.append(f"{name}[{partition}]: offsets {offset} to {low - 1} are lost: retention deleted them")
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
