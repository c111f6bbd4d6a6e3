"""Outputs on their way: an idempotent producer that keeps order and dies rather than leave a gap.

Records of a partition may be in flight together: with idempotence the broker takes them in order or not at all, and
`enable.gapless.guarantee` makes librdkafka stop where one of them failed for good, instead of sending those after it.

No threads of ours: delivery reports are served on the event loop, whenever a record is sent or somebody waits.
"""

import asyncio
from collections import Counter
from typing import Any, Final, Protocol

from confluent_kafka import KafkaError, Message

from runtime.errors import FatalError
from runtime.kafka import clients
from runtime.settings import KafkaSettings

_WAIT_S: Final = 0.002
Headers = list[tuple[str, bytes]]


class Outbox(Protocol):
    """Where an engine puts its outputs."""

    async def send(self, topic: str, partition: int, value: bytes, headers: Headers, key: bytes | None = None) -> None:
        """Send after all records sent before. Waits only where too much is on its way. Raises FatalError."""

    async def settled(self, partition: int) -> dict[str, int]:
        """Wait until all replicas have what was sent to this partition number so far; the highest offset by topic."""


class KafkaOutbox:
    """The real one. `limit_bytes` bounds what is on its way."""

    def __init__(self, settings: KafkaSettings, limit_bytes: int = 64 << 20) -> None:
        more: dict[str, Any] = {"enable.gapless.guarantee": True, "message.max.bytes": 64 << 20}
        self._producer = clients.producer(settings, more)
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._away: Counter[int] = Counter()
        self._offsets: dict[tuple[int, str], int] = {}

    async def send(self, topic: str, partition: int, value: bytes, headers: Headers, key: bytes | None = None) -> None:
        size = len(value)
        while self._bytes and self._bytes + size > self._limit_bytes:
            await self._wait()

        def arrived(error: KafkaError | None, message: Message) -> None:
            self._bytes -= size
            self._away[partition] -= 1
            if error is not None:
                raise FatalError(f"{topic}/{partition}: Kafka did not take an output: {error.name()}: {error.str()}")
            self._offsets[partition, topic] = message.offset() or 0

        self._bytes += size
        self._away[partition] += 1
        self._producer.produce(topic, value, key, partition, headers=headers, on_delivery=arrived)
        self._producer.poll(0)

    async def settled(self, partition: int) -> dict[str, int]:
        while self._away[partition]:
            await self._wait()
        return {topic: offset for (p, topic), offset in self._offsets.items() if p == partition}

    async def _wait(self) -> None:
        if not self._producer.poll(0):
            await asyncio.sleep(_WAIT_S)
