"""Records of one partition, from one offset to another."""

import time
from collections.abc import Iterator
from typing import Final

from confluent_kafka import Consumer, TopicPartition

from runtime.errors import RetryableError
from sinks.adapters import kafka
from sinks.core.records import Arrival

SILENCE_S: Final = 30.0
_LOOK_S: Final = 0.2


def read(consumer: Consumer, topic: str, partition: int, first: int, end: int) -> Iterator[Arrival]:
    """The records of a partition from offset `first` to `end`-1. Raises RetryableError, RefusedError."""
    where = f"{topic}[{partition}]"
    consumer.assign([TopicPartition(topic, partition, first)])
    position, deadline = first, time.monotonic() + SILENCE_S
    while position < end:
        messages = consumer.consume(200, _LOOK_S)
        if messages:
            deadline = time.monotonic() + SILENCE_S
        elif time.monotonic() > deadline:
            raise RetryableError(f"{where}: Kafka does not answer")
        for message in messages:
            if message.error() is not None:
                kafka.check(message.error(), where)
            elif position < end:
                position = (message.offset() or 0) + 1
                yield kafka.arrival(message)
