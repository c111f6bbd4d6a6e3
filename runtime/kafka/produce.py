"""Writing records and knowing that Kafka has them all.

produce_confirmed(settings, [NewRecord(topics.CONTROL, value, key="policy")])

with Deliveries(clients.producer(settings)) as out:      # for more than fits in memory
    for record in records:
        out.send(record)
# leaving the block waits for the last report
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from runtime.errors import RetryableError
from runtime.kafka import clients
from runtime.settings import KafkaSettings
from schemas.headers import Headers

TIMEOUT_S: Final = 30.0
"""Time without a single delivery report after which the rest counts as not acknowledged."""

Offsets = dict[tuple[str, int], int]
"""By topic and partition."""


class NotAcknowledgedError(RetryableError):
    """Kafka did not acknowledge every record. `reason` is its answer, None when there was none."""

    def __init__(self, text: str, reason: KafkaError | None = None) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to be written. Without `partition`, Kafka's default partitioner chooses by the key."""

    topic: str
    value: bytes | None
    key: str | bytes | None = None
    partition: int | None = None
    headers: Headers = ()


class Deliveries:
    """Sends records by a producer and looks at every delivery report. Not thread-safe.

    `acknowledged` and `sent` count records; `last` is the highest offset written, by topic and partition.
    """

    def __init__(self, producer: Producer, timeout_s: float = TIMEOUT_S) -> None:
        self.sent = self.acknowledged = 0
        self.last: Offsets = {}
        self._producer = producer
        self._timeout_s = timeout_s
        self._reports = 0
        self._failure: KafkaError | None = None

    def __enter__(self) -> "Deliveries":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.wait()

    def send(self, record: NewRecord) -> None:
        """Hand a record to the producer; waits while its queue is full. Raises RetryableError when Kafka refused a
        record that was sent before, or takes none for `timeout_s`."""
        deadline, seen = time.monotonic() + self._timeout_s, self._reports
        while True:
            try:
                self._produce(record)
                self._producer.poll(0)
                self._check()
                return
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:  # refused at once, for example because it is too large
                raise self._failed(error.args[0].str(), error.args[0]) from None
            if self._reports != seen:
                deadline, seen = time.monotonic() + self._timeout_s, self._reports
            elif time.monotonic() > deadline:
                raise self._failed(f"no answer for {self._timeout_s:.0f} s")

    def wait(self) -> Offsets:
        """Wait until every record is acknowledged; the highest offset of each partition. Raises RetryableError with
        the counts when one was refused, or no report came for `timeout_s`: then some may have been written."""
        deadline, seen = time.monotonic() + self._timeout_s, self._reports
        while self._reports < self.sent:
            self._producer.poll(0.1)
            self._check()
            if self._reports != seen:
                deadline, seen = time.monotonic() + self._timeout_s, self._reports
            elif time.monotonic() > deadline:
                raise self._failed(f"no answer for {self._timeout_s:.0f} s")
        return self.last

    def _produce(self, record: NewRecord) -> None:
        where = {} if record.partition is None else {"partition": record.partition}
        self._producer.produce(
            record.topic,
            record.value,
            key=record.key,
            headers=list(record.headers),
            on_delivery=self._delivered,
            **where,
        )
        self.sent += 1

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        self._reports += 1
        if error is not None:
            self._failure = self._failure or error
            return
        self.acknowledged += 1
        where = message.topic() or "", message.partition() or 0
        self.last[where] = max(self.last.get(where, -1), message.offset() or 0)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failed(self._failure.str(), self._failure)

    def _failed(self, why: str, reason: KafkaError | None = None) -> RetryableError:
        """The error to raise. What is still in the queue is dropped, so that nothing is written after the caller was
        told of the failure."""
        self._producer.purge()
        return NotAcknowledgedError(f"Kafka acknowledged {self.acknowledged} of {self.sent} records: {why}", reason)


def produce_confirmed(settings: KafkaSettings, records: Iterable[NewRecord], timeout_s: float = TIMEOUT_S) -> Offsets:
    """Write records and wait until Kafka has acknowledged every one; the highest offset of each partition.

    Raises RetryableError with the number acknowledged when one is refused, or none is acknowledged for `timeout_s`
    seconds. Then some of them may have been written.
    """
    with Deliveries(clients.producer(settings, {"linger.ms": 5}), timeout_s) as out:
        for record in records:
            out.send(record)
    return out.last
