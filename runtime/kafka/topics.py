"""Topics: made once with the settings the promises need, and known by id, so that one made anew is noticed.

`ensure` is idempotent and may run in several processes at once. The identity of each topic (its Kafka topic id, an
epoch that counts how often it was made, its number of partitions) lives in `platform.control`.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from runtime.errors import RefusedError, RetryableError
from runtime.kafka import clients
from runtime.settings import KafkaSettings
from schemas import topics as names
from schemas.control import TopicFacts, topic_key

_TIMEOUT_S = 15.0
_LEADERLESS = ("NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE", "UNKNOWN_TOPIC_OR_PART")
"""Errors of a topic just made. librdkafka does not call them retriable here."""
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Plan:
    """A topic as it must be."""

    name: str
    partitions: int
    config: dict[str, str]


def plans(
    partitions: int, replication: int, retention_ms: int = 7 * DAY_MS, stages: Iterable[str] = tuple(names.STAGES)
) -> list[Plan]:
    """Every topic of the platform. Readings may be larger than raw, so that no record can block its partition."""
    durable = {"min.insync.replicas": str(max(1, replication - 1)), "message.timestamp.type": "LogAppendTime"}
    stream = durable | {"retention.ms": str(retention_ms), "compression.type": "producer"}
    compacted = durable | {
        "cleanup.policy": "compact",
        "max.message.bytes": str(32 << 20),
        "segment.bytes": str(64 << 20),
    }
    return [
        Plan(names.CONTROL, 1, compacted | {"max.message.bytes": str(1 << 20)}),
        Plan(names.RAW, partitions, stream | {"max.message.bytes": str(2 << 20)}),
        Plan(names.READINGS, partitions, stream | {"max.message.bytes": str(16 << 20)}),
        *(Plan(name, partitions, stream | {"max.message.bytes": str(16 << 20)}) for name in names.DERIVED),
        *(Plan(names.state_topic(s), partitions, compacted | {"max.message.bytes": str(32 << 20)}) for s in stages),
    ]


def ensure(settings: KafkaSettings, wanted: list[Plan], replication: int) -> dict[str, TopicFacts]:
    """Make the topics that are missing and record their identity. Raises RefusedError where one differs.

    The first plan must be `platform.control`: the others' identities are written there.
    """
    admin = clients.admin(settings)
    new = [NewTopic(p.name, p.partitions, replication, config=p.config) for p in wanted]
    for name, future in admin.create_topics(new, operation_timeout=_TIMEOUT_S).items():
        try:
            future.result(_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise RetryableError(f"cannot create topic {name}: {error.args[0].str()}") from error
    ids = identities(admin, [p.name for p in wanted])
    for plan in wanted:
        if ids[plan.name][1] != plan.partitions:
            raise RefusedError(
                f"topic {plan.name} has {ids[plan.name][1]} partitions, settings say {plan.partitions}: the number of"
                " partitions is fixed for a topic's life; set it back or move the data to a new platform"
            )
    return _record(settings, ids)


def identities(admin: AdminClient, wanted: list[str]) -> dict[str, tuple[str, int]]:
    """(topic id, number of partitions) of each topic as Kafka has it now. Raises RetryableError if it does not say."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            found = admin.describe_topics(TopicCollection(wanted), request_timeout=_TIMEOUT_S)
            done = {name: future.result(_TIMEOUT_S) for name, future in found.items()}
            return {name: (str(d.topic_id), len(d.partitions)) for name, d in done.items()}
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise RetryableError(f"cannot describe topics: {error.args[0].str()}") from error
            time.sleep(0.2)


def _record(settings: KafkaSettings, ids: dict[str, tuple[str, int]]) -> dict[str, TopicFacts]:
    known = read_control(settings)
    facts: dict[str, TopicFacts] = {}
    producer = None
    for name, (topic_id, partitions) in ids.items():
        key = topic_key(name)
        old = TopicFacts.decode(key, known[key][1]) if key in known else None
        if old is not None and old.topic_id == topic_id:
            facts[name] = old
            continue
        facts[name] = TopicFacts(topic_id, 0 if old is None else old.epoch + 1, partitions)
        producer = producer or clients.producer(settings)
        producer.produce(names.CONTROL, key=key, value=facts[name].encode())
    if producer is not None and producer.flush(_TIMEOUT_S):
        raise RetryableError("cannot write topic identities to platform.control")
    return facts


def read_control(settings: KafkaSettings) -> dict[str, tuple[int, bytes]]:
    """The newest (offset, value) of every key of `platform.control`; tombstones are left out."""
    consumer = clients.consumer(
        settings, clients.READER, more={"auto.offset.reset": "earliest", "enable.partition.eof": True}
    )
    try:
        return _read_all(consumer)
    finally:
        consumer.close()


def _bounds(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            low, high = consumer.get_watermark_offsets(partition, timeout=_TIMEOUT_S)
            return low, high
        except KafkaException as error:  # a topic just made has no leader yet
            if time.monotonic() > deadline or error.args[0].name() not in _LEADERLESS:
                raise RetryableError(f"cannot read platform.control: {error.args[0].str()}") from error
            time.sleep(0.1)


def _read_all(consumer: Consumer) -> dict[str, tuple[int, bytes]]:
    low, high = _bounds(consumer, TopicPartition(names.CONTROL, 0))
    found: dict[str, tuple[int, bytes]] = {}
    consumer.assign([TopicPartition(names.CONTROL, 0, low)])
    deadline = time.monotonic() + _TIMEOUT_S
    position = low
    while position < high:
        for message in consumer.consume(500, 0.02):
            failure = message.error()
            if failure is not None:
                if failure.name() == "_PARTITION_EOF":
                    position = high
                    continue
                raise RetryableError(f"cannot read platform.control: {failure.str()}")
            position = (message.offset() or 0) + 1
            key, value = (message.key() or b"").decode(), message.value()
            if value is None:
                found.pop(key, None)
            else:
                found[key] = (message.offset() or 0, value)
        if time.monotonic() > deadline:
            raise RetryableError("reading platform.control takes too long")
    return found


def facts(settings: KafkaSettings, *wanted: str) -> dict[str, TopicFacts]:
    """Identities of topics as recorded. Raises RetryableError while `millrace init` has not run."""
    known = read_control(settings)
    missing = [name for name in wanted if topic_key(name) not in known]
    if missing:
        raise RetryableError(f"topics {', '.join(missing)} are not there yet: run `millrace init` first")
    return {name: TopicFacts.decode(topic_key(name), known[topic_key(name)][1]) for name in wanted}
