"""Sends outputs: an idempotent producer that keeps their order and fails rather than leave a gap.

Records of a partition may be in flight together: with idempotence the broker takes them in order or not at all, and
`enable.gapless.guarantee` makes librdkafka stop where one of them failed, instead of sending those after it.

No threads of ours: delivery reports are served on the event loop, whenever a record is sent or a caller waits.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final, Protocol

from confluent_kafka import KafkaError, KafkaException, Message

from runtime.errors import FatalError
from runtime.kafka import clients
from runtime.settings import KafkaSettings

_WAIT_S: Final = 0.002
Headers = list[tuple[str, bytes]]


class Outbox(Protocol):
    """Sends the outputs of an engine. For one event loop; not thread-safe.

    Call order: any number of `send`, then `settled` before the source offsets of these outputs are committed. After a
    FatalError the outbox must not be used again: the worker ends, and resumes from its last snapshot.

        await outbox.send("telemetry.doubled", 0, value, output.headers + provenance)
        offsets = await outbox.settled(0)  # {"telemetry.doubled": 41}
    """

    async def send(
        self, topic: str, partition: int, value: bytes | None, headers: Headers, key: bytes | None = None
    ) -> None:
        """Send a record, in order after all records sent earlier to this topic and partition.

        `value`: None for a tombstone. `key`: for compacted topics. Returns before Kafka has stored the record; waits
        only while too many bytes are in flight. Raises FatalError if Kafka rejected this record or an earlier one.
        """

    async def settled(self, partition: int) -> dict[str, int]:
        """Wait until all in-sync replicas have acknowledged the records sent so far to this partition of any topic.

        Records that are sent while it waits are not included. Returns the highest acknowledged offset by topic; topics
        without records are left out. Raises FatalError like `send`.
        """


@dataclass(slots=True)
class _Line:
    """Records of one topic and partition: sent, arrived in that order, and the offset of the last that arrived."""

    sent: int = 0
    arrived: int = 0
    offset: int = -1


class KafkaOutbox:
    """An outbox that produces to Kafka. `settings`: addresses and security. `limit_bytes`: most bytes in flight."""

    def __init__(self, settings: KafkaSettings, limit_bytes: int = 64 << 20) -> None:
        more: dict[str, Any] = {"enable.gapless.guarantee": True, "message.max.bytes": 64 << 20}
        self._producer = clients.producer(settings, more)
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._topics: dict[int, dict[str, _Line]] = defaultdict(dict)

    async def send(
        self, topic: str, partition: int, value: bytes | None, headers: Headers, key: bytes | None = None
    ) -> None:
        size = len(value or b"")
        line = self._topics[partition].setdefault(topic, _Line())
        while self._bytes and self._bytes + size > self._limit_bytes:
            await self._wait()

        def arrived(error: KafkaError | None, message: Message) -> None:
            self._bytes -= size
            line.arrived += 1
            if error is not None:
                raise _refused(topic, partition, error)
            line.offset = message.offset() or 0

        self._bytes += size
        line.sent += 1
        while True:
            try:
                self._producer.produce(topic, value, key, partition, headers=headers, on_delivery=arrived)
                break
            except BufferError:  # too many records in flight
                await self._wait()
            except KafkaException as error:
                raise _refused(topic, partition, error.args[0]) from None
        self._poll()

    async def settled(self, partition: int) -> dict[str, int]:
        lines = self._topics[partition]
        for line, sent in [(line, line.sent) for line in lines.values()]:  # what is sent meanwhile is not waited for
            while line.arrived < sent:
                await self._wait()
        return {topic: line.offset for topic, line in lines.items() if line.offset >= 0}

    async def _wait(self) -> None:
        if not self._poll():
            await asyncio.sleep(_WAIT_S)

    def _poll(self) -> int:
        try:
            return int(self._producer.poll(0))
        except KafkaException as error:  # the producer has stopped permanently
            raise FatalError(f"Kafka rejected an output: {error.args[0].str()}") from None


def _refused(topic: str, partition: int, error: KafkaError) -> FatalError:
    return FatalError(f"{topic}/{partition}: Kafka rejected an output: {error.name()}: {error.str()}")
