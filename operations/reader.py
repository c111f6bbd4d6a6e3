"""Reading Kafka for people: from here to there, without a group and without a trace."""

from collections.abc import Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from runtime.errors import MillraceError, RetryableError
from runtime.kafka import clients
from runtime.settings import KafkaSettings

_ANSWER_S: Final = 15.0


class Reader:
    """A consumer of one topic. `close` it, or use `with`. Raises RetryableError when Kafka does not answer."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self.topic = topic
        # ends are told even where the last offset was compacted away; what goes wrong is told by us, once
        more = {"enable.partition.eof": True, "log_level": 0}
        self._consumer: Consumer = clients.consumer(settings, clients.READER, more=more)
        try:
            found = self._consumer.list_topics(topic, timeout=_ANSWER_S).topics[topic]
        except KafkaException as error:
            self._consumer.close()
            raise RetryableError(
                f"Kafka at {settings.kafka_bootstrap} does not answer: {error.args[0].str()}"
            ) from None
        if found.error is not None or not found.partitions:
            self._consumer.close()
            raise MillraceError(f"there is no topic {topic!r}")
        self.partitions = sorted(found.partitions)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def bounds(self, partition: int) -> tuple[int, int]:
        """(first offset that is still there, offset after the last)."""
        low, high = self._consumer.get_watermark_offsets(TopicPartition(self.topic, partition), _ANSWER_S)
        return low, high

    def at_time(self, partition: int, time_ms: int) -> int:
        """The first offset appended at or after a time; the end when there is none."""
        asked = [TopicPartition(self.topic, partition, time_ms)]
        found: int = self._consumer.offsets_for_times(asked, _ANSWER_S)[0].offset
        return found if found >= 0 else self.bounds(partition)[1]

    def follow(self, starts: dict[int, int]) -> Iterator[Message]:
        """Records from these offsets on, by partition; for ever."""
        self._assign(starts)
        while True:
            for message in self._consumer.consume(500, 0.2):
                if _is_record(message):
                    yield message

    def until(self, starts: dict[int, int], ends: dict[int, int]) -> Iterator[Message]:
        """Records from these offsets on up to, not including, `ends`."""
        left = {p for p, start in starts.items() if start < ends[p]}
        self._assign({p: starts[p] for p in left})
        while left:
            for message in self._consumer.consume(500, 0.2):
                partition, offset = message.partition() or 0, message.offset() or 0
                is_record = _is_record(message)
                if is_record and offset < ends[partition]:
                    yield message
                if not is_record or offset >= ends[partition] - 1:
                    left.discard(partition)

    def record(self, partition: int, offset: int) -> Message | None:
        """One record; None when retention took it."""
        low, high = self.bounds(partition)
        if not low <= offset < high:
            return None
        return next(self.until({partition: offset}, {partition: offset + 1}), None)

    def _assign(self, starts: dict[int, int]) -> None:
        self._consumer.assign([TopicPartition(self.topic, p, offset) for p, offset in starts.items()])


def _is_record(message: Message) -> bool:
    """False at the end of a partition. Raises RetryableError for what Kafka complains of."""
    error = message.error()
    if error is None:
        return True
    if error.name() == "_PARTITION_EOF":
        return False
    raise RetryableError(f"Kafka: {error.str()}")
