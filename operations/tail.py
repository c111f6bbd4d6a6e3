"""What passes through a topic, as dictionaries that JSON takes."""

from collections.abc import Generator, Iterator
from typing import Any

from confluent_kafka import Message

from operations.errors import InvalidArgumentError
from operations.records import lines
from runtime.kafka.log import NEWEST, LogReader
from runtime.settings import KafkaSettings


def tail(
    kafka: KafkaSettings, topic: str, *, from_beginning: bool = False, follow: bool = True, with_all: bool = False
) -> Generator[dict[str, Any], None, None]:
    """The rows of a topic's records, from now on or from the oldest record that Kafka holds; without an end, or without
    `follow` up to the end of each partition as of now. `with_all`: control records and ticks too.

    Raises InvalidArgumentError where there is no such topic, RetryableError when Kafka is away.
    """
    with LogReader(kafka) as reader:
        partitions = reader.partitions(topic)
        if not partitions:
            raise InvalidArgumentError(f"there is no topic {topic!r}")
        bounds = {p: reader.bounds(topic, p) for p in partitions}
        starts = {p: low if from_beginning else high for p, (low, high) in bounds.items()}
        for message in _messages(reader, topic, starts, follow):
            at = message.partition() or 0, message.offset() or 0
            yield from lines(topic, *at, message.key(), message.headers() or [], message.value(), with_all)


def _messages(reader: LogReader, topic: str, starts: dict[int, int], follow: bool) -> Iterator[Message]:
    if not follow:
        yield from reader.records(topic, {p: (start, NEWEST) for p, start in starts.items()})
        return
    for batch in reader.follow(topic, starts):
        yield from batch
