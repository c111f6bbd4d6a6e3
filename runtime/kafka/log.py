"""Reading a log: partitions of a topic from one offset to another, or to their end as of now, without a group.

    with LogReader(settings) as log:
        for batch in log.read(topics.RAW, {0: (start, end), 1: (OLDEST, NEWEST)}):
            for message in batch:
                ...

Readers are `read_committed`: records of aborted and of open transactions are not seen, and the end of a partition is
its last stable offset. Transaction markers and what compaction removed take up offsets without a record; neither makes
a read wait, because the end of a partition is also reported by Kafka itself.
"""

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from runtime.errors import RetryableError
from runtime.kafka import clients
from runtime.settings import KafkaSettings

OLDEST: Final = OFFSET_BEGINNING
"""As the start of a span: the oldest record that Kafka still holds."""
NEWEST: Final = -1
"""As the end of a span: the end of the partition as of now."""
TIMEOUT_S: Final = 30.0
"""Time without any progress after which a read fails. A read that makes progress may take as long as it needs."""
_ANSWER_S: Final = 15.0
"""How long one question may take."""
_LEADER_S: Final = 10.0
"""How long to wait for the leader of a topic that was just created."""
_BATCH: Final = 10_000
_POLL_S: Final = 0.2
_NO_LEADER: Final = ("NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE", "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_PARTITION")
"""Errors of a topic that was just created. librdkafka does not call them retriable here."""

Span = tuple[int, int]
"""Offsets: the first to read (or OLDEST), and the one to stop before (or NEWEST)."""


class LogReader:
    """A consumer that is assigned what it is asked for and commits nothing. Blocking, not thread-safe; one read at a
    time. A context manager.

    Every method raises RetryableError when Kafka refuses, or when nothing at all arrives for `timeout_s` seconds.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        timeout_s: float = TIMEOUT_S,
        group: str = clients.READER,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """`more`: further properties of the consumer, such as `fetch.message.max.bytes`."""
        own: dict[str, Any] = {"enable.partition.eof": True, "isolation.level": "read_committed"}
        self.consumer: Consumer = clients.consumer(settings, group, more=own | dict(more or {}))
        self._timeout_s = timeout_s
        self._current: object = None

    def __enter__(self) -> "LogReader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._current = None  # a read that an error broke off is collected later
        self.consumer.close()

    def partitions(self, topic: str) -> list[int]:
        """The partitions of a topic; empty when there is no such topic."""
        try:
            found = self.consumer.list_topics(topic, timeout=_ANSWER_S).topics[topic]
        except KafkaException as error:
            raise _failed(f"ask for topic {topic}", error.args[0]) from None
        return [] if found.error is not None else sorted(found.partitions)

    def bounds(self, topic: str, partition: int) -> Span:
        """(first offset kept, offset after the last one that a reader may see)."""
        deadline = time.monotonic() + _LEADER_S
        while True:
            try:
                low, high = self.consumer.get_watermark_offsets(TopicPartition(topic, partition), _ANSWER_S)
                return low, high
            except KafkaException as error:
                if time.monotonic() > deadline or error.args[0].name() not in _NO_LEADER:
                    raise _failed(f"ask for the bounds of {topic}[{partition}]", error.args[0]) from None
                time.sleep(0.1)

    def at_time(self, topic: str, partition: int, time_ms: int) -> int:
        """The first offset appended at or after a time (milliseconds since 1970); the end when there is none."""
        try:
            (found,) = self.consumer.offsets_for_times([TopicPartition(topic, partition, time_ms)], _ANSWER_S)
        except KafkaException as error:
            raise _failed(f"ask for a time in {topic}[{partition}]", error.args[0]) from None
        return int(found.offset) if found.offset >= 0 else self.bounds(topic, partition)[1]

    def read(self, topic: str, spans: Mapping[int, Span]) -> Iterator[list[Message]]:
        """The records of each partition's span, in batches of at least one; in order within a partition."""
        left = {p: self._resolved(topic, p, span) for p, span in spans.items()}
        left = {p: (start, end) for p, (start, end) in left.items() if start < end}
        this = self._assign(topic, {p: start for p, (start, _) in left.items()})
        ends = {p: end for p, (_, end) in left.items()}
        deadline = time.monotonic() + self._timeout_s
        try:
            while ends:
                arrived = self.poll(_BATCH, _POLL_S)
                found = list(_inside(topic, arrived, ends))
                if found:
                    yield found
                if arrived:
                    deadline = time.monotonic() + self._timeout_s
                elif time.monotonic() > deadline:
                    waiting = ", ".join(f"{topic}[{p}] up to {end}" for p, end in sorted(ends.items()))
                    raise RetryableError(f"Kafka: nothing arrived for {self._timeout_s:.0f} s while reading {waiting}")
        finally:
            if self._current is this:  # one that was abandoned may be closed while the next one reads
                self.consumer.unassign()

    def records(self, topic: str, spans: Mapping[int, Span]) -> Iterator[Message]:
        """As `read`, one by one."""
        for batch in self.read(topic, spans):
            yield from batch

    def record(self, topic: str, partition: int, offset: int) -> Message | None:
        """The record at an offset; None where retention or compaction removed it, or it was never written."""
        low, high = self.bounds(topic, partition)
        if not low <= offset < high:
            return None
        return next(self.records(topic, {partition: (offset, offset + 1)}), None)

    def follow(self, topic: str, starts: Mapping[int, int], wait_s: float = _POLL_S) -> Iterator[list[Message]]:
        """Records from these offsets on, in batches, without an end: an empty batch when none came for `wait_s`."""
        self._assign(topic, starts)
        while True:
            yield [m for m in self.poll(_BATCH, wait_s) if not _is_end(topic, m)]

    def poll(self, most: int, wait_s: float) -> list[Message]:
        """What has arrived, up to `most` messages, ends of partitions included; waits for the first up to `wait_s`."""
        first = self.consumer.poll(wait_s)
        return [] if first is None else [first, *self.consumer.consume(most - 1, 0)]

    def _resolved(self, topic: str, partition: int, span: Span) -> Span:
        if OLDEST not in span and NEWEST not in span:
            return span
        low, high = self.bounds(topic, partition)
        return low if span[0] == OLDEST else span[0], high if span[1] == NEWEST else span[1]

    def _assign(self, topic: str, starts: Mapping[int, int]) -> object:
        """Something that is `_current` until the next read begins."""
        self.consumer.assign([TopicPartition(topic, p, start) for p, start in starts.items()])
        self._current = object()
        return self._current


def _inside(topic: str, arrived: list[Message], ends: dict[int, int]) -> Iterator[Message]:
    """The records before the ends. Removes from `ends` each partition that has reached its own."""
    for message in arrived:
        partition, offset = message.partition() or 0, message.offset() or 0
        end = ends.get(partition)
        if _is_end(topic, message):
            reached = offset
        else:
            reached = offset + 1
            if end is not None and offset < end:
                yield message
        if end is not None and reached >= end:
            del ends[partition]


def _is_end(topic: str, message: Message) -> bool:
    """Whether it reports the end of a partition. Raises RetryableError for an error."""
    error = message.error()
    if error is None:
        return False
    if error.code() == KafkaError._PARTITION_EOF:
        return True
    raise _failed(f"read {topic}[{message.partition()}]", error)


def _failed(what: str, error: KafkaError) -> RetryableError:
    return RetryableError(f"Kafka: cannot {what}: {error.name()}: {error.str()}")
