"""The sink's Kafka consumer: all topics in one group; offsets are committed by the engine alone."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from runtime.errors import FatalError, RefusedError, RetryableError
from runtime.kafka import clients
from runtime.settings import KafkaSettings
from schemas.control import TopicFacts
from schemas.topics import STAGES, source_of
from sinks.core.records import Arrival
from sinks.settings import SinkSettings

_TIMEOUT_S: Final = 10.0
SPREAD_S: Final = 10.0
"""How long a new topic may take until every broker knows it."""
NO_OFFSET: Final = -1001
_PASSING: Final = frozenset(
    {
        "_TRANSPORT",
        "_TIMED_OUT",
        "_ALL_BROKERS_DOWN",
        "_WAIT_COORD",
        "_RESOLVE",
        "_STATE",
        "_ASSIGNMENT_LOST",
        "_MAX_POLL_EXCEEDED",
        "REQUEST_TIMED_OUT",
        "COORDINATOR_LOAD_IN_PROGRESS",
        "COORDINATOR_NOT_AVAILABLE",
        "NOT_COORDINATOR",
        "NOT_LEADER_FOR_PARTITION",
        "LEADER_NOT_AVAILABLE",
        "UNKNOWN_LEADER_EPOCH",
        "FENCED_LEADER_EPOCH",
        # another sink has the partitions now, or this one joins again: a rebalance follows and drops what is open
        "REBALANCE_IN_PROGRESS",
        "ILLEGAL_GENERATION",
        "UNKNOWN_MEMBER_ID",
    }
)


def connect(settings: SinkSettings, on_error: Callable[[KafkaError], None]) -> Consumer:
    """A consumer of the group. A restarted instance gets its partitions back at once: it has a name."""
    more: dict[str, Any] = {
        "group.instance.id": f"{settings.sink_group}-{settings.instance}",
        "partition.assignment.strategy": "range",
        "session.timeout.ms": settings.sink_session_ms,
        "heartbeat.interval.ms": min(2_000, settings.sink_session_ms // 3),
        "max.poll.interval.ms": max(600_000, settings.sink_session_ms),
        # of the one queue of all partitions, beside what the engine bounds
        "queued.max.messages.kbytes": 32 << 10,
        "fetch.max.bytes": 16 << 20,
    }
    return clients.consumer(settings, settings.sink_group, on_error, more)


def check_topics(settings: KafkaSettings, facts: Mapping[str, TopicFacts], spread_s: float = 0.0) -> None:
    """Raise RefusedError where a topic was deleted, or deleted and created again; RetryableError without an answer.

    A topic must be missing for `spread_s`: not every broker knows a new one at once.
    """
    admin, deadline = clients.admin(settings), time.monotonic() + spread_s
    while missing := [name for name, topic in facts.items() if not _is_there(admin, name, topic.topic_id)]:
        if time.monotonic() >= deadline:
            raise RefusedError(_gone(missing[0]))
        time.sleep(0.2)


def _is_there(admin: AdminClient, name: str, topic_id: str) -> bool:
    try:
        found = admin.describe_topics(TopicCollection([name]), request_timeout=_TIMEOUT_S)[name].result(_TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].name() in ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC"):
            return False
        raise RetryableError(f"cannot describe topic {name}: {error.args[0].str()}") from error
    return str(found.topic_id) == topic_id


def _gone(topic: str) -> str:
    stages = [stage for stage, outputs in STAGES.items() if topic in outputs or source_of(stage) == topic]
    resets = ", ".join(f"`millrace stage reset {stage} --from-oldest --reason '...'`" for stage in stages)
    return (
        f"topic {topic} was deleted, or created again by something else than Millrace. Bring the old one back, or go on"
        f" with what other topics still hold: `millrace init`, {resets}, then `millrace restart`"
    )


def passes(error: KafkaError) -> bool:
    """Whether waiting heals it."""
    return not error.fatal() and (error.retriable() or error.name() in _PASSING)


def check(error: KafkaError, where: str) -> None:
    """Raise for an error that waiting does not heal."""
    if passes(error):
        return
    if error.name() in ("_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"):
        raise RefusedError(f"{where}: {error.str()}: retention deleted records before they were stored")
    if error.name() == "FENCED_INSTANCE_ID":
        raise FatalError(f"{where}: another sink runs under the same MILLRACE_INSTANCE; each needs its own")
    raise FatalError(f"{where}: Kafka: {error.name()}: {error.str()}")


def arrival(message: Message) -> Arrival:
    """A record as the core takes it."""
    _kind, appended_ms = message.timestamp()
    headers = [(name, value or b"") for name, value in message.headers() or ()]
    return Arrival(message.offset() or 0, appended_ms, headers, message.value() or b"")


def committed(consumer: Consumer, partitions: list[TopicPartition]) -> dict[tuple[str, int], tuple[int, str] | None]:
    """Offset and metadata of each partition's commit, None where there is none. Raises RetryableError."""
    try:
        found = consumer.committed(partitions, timeout=_TIMEOUT_S)
    except KafkaException as error:
        raise _retryable(error, "read the commits") from error
    return {
        (tp.topic, tp.partition): None if tp.offset == NO_OFFSET else (tp.offset, tp.metadata or "") for tp in found
    }


def ends(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """First offset kept and next offset to be written. Raises RetryableError."""
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_TIMEOUT_S)
    except KafkaException as error:
        raise _retryable(error, f"read the ends of {topic}[{partition}]") from error
    return low, high


def commit(consumer: Consumer, marks: dict[tuple[str, int], tuple[int, str]]) -> bool:
    """Commit synchronously; false if Kafka could not do it now. Raises FatalError, RefusedError."""
    offsets = [TopicPartition(t, p, offset, metadata) for (t, p), (offset, metadata) in marks.items()]
    try:
        done = consumer.commit(offsets=offsets, asynchronous=False) or []
    except KafkaException as error:
        check(error.args[0], "commit")
        return False
    failed = [tp.error for tp in done if tp.error is not None]
    for failure in failed:
        check(failure, "commit")
    return not failed


def _retryable(error: KafkaException, what: str) -> RetryableError:
    check(error.args[0], what)
    return RetryableError(f"cannot {what}: {error.args[0].str()}")
