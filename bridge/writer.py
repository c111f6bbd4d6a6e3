"""The one way of a bridge into telemetry.raw: groups out, delivery reports in, acknowledgements in order of receipt.

Runs on the event loop of its process; librdkafka works in threads of its own and is asked every few milliseconds while
something is in flight. Nothing here blocks: a full librdkafka queue keeps the records here, inside the byte budget.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, Message, Producer

from bridge import metrics
from bridge.core.columns import Record
from bridge.core.intake import Group, Intake
from bridge.settings import WriterSettings
from runtime.errors import FatalError
from runtime.kafka import clients
from runtime.lifecycle import die
from runtime.settings import KafkaSettings
from schemas import headers, topics

log = logging.getLogger(__name__)

_POLL_S: Final = 0.002
_SLOW_POLL_S: Final = 0.02
_IDLE_POLL_S: Final = 1.0
_STUCK_S: Final = 10.0


def producer(settings: KafkaSettings, budget_bytes: int) -> Producer:
    """A producer whose own queue is bounded by the budget, and whose request never outgrows telemetry.raw's limit."""
    more = {"queue.buffering.max.kbytes": 2 * budget_bytes >> 10, "batch.size": 1_000_000}
    return clients.producer(settings, more | {"error_cb": _on_error})


def _on_error(error: KafkaError) -> None:
    log.log(logging.CRITICAL if error.fatal() else logging.WARNING, "Kafka: %s: %s", error.name(), error.str())


class Writer:
    """Closes groups (by rows, bytes or linger), writes them, and calls `Group.done` in order of receipt.

    `on_pause(True)` asks the sources to stop reading, `on_pause(False)` to go on. Any delivery error is fatal: the
    process ends without acknowledging, and senders repeat what was not acknowledged.
    """

    def __init__(
        self,
        intake: Intake,
        kafka: Producer,
        settings: WriterSettings,
        on_fatal: Callable[[BaseException, str], Any] = die,
    ) -> None:
        self.intake = intake
        self.on_pause: list[Callable[[bool], None]] = []
        self._kafka = kafka
        self._linger_s = settings.linger_ms / 1000
        self._drain_s = settings.drain_s
        self._on_fatal = on_fatal
        self._outbox: deque[tuple[Group, Record]] = deque()
        self._loop = asyncio.get_running_loop()
        self._linger: asyncio.TimerHandle | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._paused = False
        self._waits_since_s: float | None = None
        self._drain_until_s: float | None = None

    async def start(self) -> None:
        self._schedule()

    async def stop(self) -> None:
        """Write open groups, wait for Kafka up to `drain_s`. The rest is not acknowledged; its senders repeat it."""
        await self.drain()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def added(self, rows: int, size_bytes: int, platform: int = 0) -> None:
        """Rows were put into the intake, of messages and of the platform's own: account for them, and close the group
        if it is full."""
        metrics.MESSAGES.inc(rows)
        metrics.BYTES.inc(size_bytes)
        if self.intake.add(rows, size_bytes, platform):
            self.close()
        elif self._linger is None:
            self._linger = self._loop.call_later(self._linger_s, self.close)
        if self.intake.paused:
            self._report()

    def close(self) -> None:
        """Close the open group now, without waiting for more rows."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if not self.intake.open.held_bytes:
            return
        try:
            group, records = self.intake.close(self._loop.time())
            self._outbox.extend((group, record) for record in records)
            self._send()
        except Exception as error:
            self._on_fatal(error, "writing a group")
        self._schedule()

    async def drain(self) -> bool:
        """Close and wait until Kafka acknowledged everything; False when `drain_s`, from the first call, is over."""
        self.close()
        if self._drain_until_s is None:
            self._drain_until_s = self._loop.time() + self._drain_s
        deadline = self._drain_until_s
        while self.intake.closed and self._loop.time() < deadline:  # noqa: ASYNC110 (librdkafka has no event to wait for)
            await asyncio.sleep(_POLL_S)
        if self.intake.closed:
            log.warning(
                "stopping with unacknowledged groups: their senders will send them again",
                extra={"groups": len(self.intake.closed)},
            )
        return not self.intake.closed

    def wrong(self) -> str | None:
        """For readiness: what is wrong with the way into Kafka."""
        waited_s = 0.0 if self._waits_since_s is None else self._loop.time() - self._waits_since_s
        return f"Kafka has not acknowledged for {waited_s:.0f} s" if waited_s > _STUCK_S else None

    def _send(self) -> None:
        while self._outbox:
            group, record = self._outbox[0]
            try:
                self._kafka.produce(
                    topics.RAW,
                    record.value,
                    partition=record.partition,
                    headers=headers.raw_data(record.rows, record.platform),
                    on_delivery=partial(self._delivered, group),
                )
            except BufferError:
                return
            self._outbox.popleft()
            metrics.RECORDS.inc()

    def _delivered(self, group: Group, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise FatalError(f"Kafka refused a record of {topics.RAW}/{message.partition()}: {error.str()}")
        group.pending -= 1

    def _schedule(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
        self._tick = self._loop.call_later(self._pace_s(), self._poll)

    def _pace_s(self) -> float:
        """Often while an answer is near, seldom while Kafka is unavailable or there is nothing to wait for."""
        if not self.intake.closed:
            return _IDLE_POLL_S
        waited_s = self._loop.time() - self.intake.closed[0].closed_at_s
        return _POLL_S if waited_s < 0.2 else _SLOW_POLL_S

    def _poll(self) -> None:
        try:
            self._kafka.poll(0)
            self._send()
            for group in self.intake.acknowledged():
                metrics.ACKNOWLEDGED.inc(group.rows)
                metrics.ACK_DELAY.observe(self._loop.time() - group.closed_at_s)
                for callback in group.done:
                    callback()
        except Exception as error:
            self._on_fatal(error, "Kafka")
        self._report()
        self._schedule()

    def _report(self) -> None:
        self._waits_since_s = self.intake.closed[0].closed_at_s if self.intake.closed else None
        metrics.HELD.set(self.intake.held_bytes)
        metrics.GROUPS.set(len(self.intake.closed))
        metrics.QUEUE.set(len(self._kafka))
        if self.intake.paused != self._paused:
            self._paused = self.intake.paused
            metrics.PAUSED.set(self._paused)
            metrics.PAUSES.inc(self._paused)
            for callback in self.on_pause:
                callback(self._paused)
