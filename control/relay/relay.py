"""One relay: reads platform.control, writes telemetry.raw, commits; and writes a tick every second.

Blocking, for a thread of its own. Repeats are harmless (the version of a control record identifies them), two relays at
once are harmless, so nothing is fenced: what counts is that a record is committed only after Kafka holds it in every
partition, and that each relay writes in the order of platform.control.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Message, TopicPartition

from control.relay import metrics
from control.relay.core import MOST_OFF_MS, Clock, Generation, Outgoing, Routing
from control.relay.settings import GROUP, RelaySettings
from runtime.errors import FatalError, RefusedError
from runtime.kafka import clients
from runtime.kafka.applied import Publisher
from schemas import headers, topics
from schemas.control import TopicFacts, heartbeat_key
from schemas.headers import Version

log = logging.getLogger(__name__)

_BATCH: Final = 500


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _steady_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Relay:
    """`step` carries what is there and ticks when it is time; call it in a loop. Errors are fatal.

    `beat` is called in the thread that works: after each step, and while that waits for Kafka.
    """

    def __init__(
        self,
        settings: RelaySettings,
        control: TopicFacts,
        raw: TopicFacts,
        beat: Callable[[], None] = lambda: None,
        wall_ms: Callable[[], int] = _wall_ms,
        steady_ms: Callable[[], int] = _steady_ms,
    ) -> None:
        self.stopping = False
        self._beat = beat
        self._ticked_at_ms = steady_ms()
        self._settings = settings
        self._generation = Generation(control.epoch, raw.epoch)
        self._partitions = raw.partitions
        self._routing = Routing(raw.partitions)
        self._clock = Clock()
        self._wall_ms, self._steady_ms = wall_ms, steady_ms
        self._next_tick_ms = steady_ms()
        self._unanswered = 0
        self._producer = clients.producer(settings)
        self._consumer = clients.consumer(settings, GROUP)
        self._applied = Publisher(settings, f"relay.{settings.instance}")
        self._position = self._committed = 0

    def open(self) -> None:
        """Find the committed position, and continue from there."""
        part = TopicPartition(topics.CONTROL, 0)
        (committed,) = self._consumer.committed([part], timeout=30)
        low, high = self._consumer.get_watermark_offsets(part, timeout=30)
        resumed = self._generation.resume_at(committed.offset, committed.metadata)
        self._position = self._committed = max(low, resumed)
        self._routing = Routing(self._partitions, complete_below=0 if resumed else high)
        self._consumer.assign([TopicPartition(topics.CONTROL, 0, self._position)])
        self._applied.applied(self._position)
        self._applied.start()
        self._beat()
        log.info("relaying %s from offset %d", topics.CONTROL, self._position)

    def silent_s(self) -> float:
        """Seconds since the last tick."""
        return (self._steady_ms() - self._ticked_at_ms) / 1000

    def close(self) -> None:
        self._producer.flush(5)
        self._applied.stop()
        self._consumer.close()

    def step(self) -> None:
        """Wait at most until the next tick is due, relay what came, tick."""
        wait_s = max(0.0, self._next_tick_ms - self._steady_ms()) / 1000
        first = self._consumer.poll(wait_s)
        if first is not None:
            self._relay([first, *self._consumer.consume(_BATCH, 0)])
        self._producer.poll(0)
        if self._steady_ms() >= self._next_tick_ms:
            self._next_tick_ms = max(self._next_tick_ms + self._settings.tick_ms, self._steady_ms())
            self._tick()
        self._beat()

    def _relay(self, messages: list[Message]) -> None:
        for message in messages:
            clients.check_fatal(message.error())
            if message.error() is None:
                for record in self._route(message):
                    self._produce(record)
                self._position = (message.offset() or 0) + 1
        if self._position > self._committed and self._written():
            self._commit()

    def _written(self) -> bool:
        """Wait until Kafka holds all; False when asked to stop before that (it will be written again)."""
        while self._producer.flush(0.5):
            self._beat()
            if self.stopping:
                return False
        return True

    def _route(self, message: Message) -> list[Outgoing]:
        key, offset = (message.key() or b"").decode("utf-8", "replace"), message.offset() or 0
        version = Version(self._generation.control_epoch, offset)
        found = self._routing.route(key, message.value(), version, dict(message.headers() or ()))
        if found.broken is not None:
            metrics.BROKEN.inc()
            what = "its device is denied" if found.records else "left out"
            log.error("%s at offset %d is broken, %s: %s", topics.CONTROL, offset, what, found.broken)
        metrics.RELAYED.inc(bool(found.records))
        return found.records

    def _produce(self, record: Outgoing) -> None:
        while True:
            try:
                self._producer.produce(
                    topics.RAW,
                    record.value,
                    partition=record.partition,
                    headers=list(record.headers),
                    on_delivery=_delivered,
                )
                return
            except BufferError:
                self._beat()
                self._producer.poll(0.1)

    def _commit(self) -> None:
        done = TopicPartition(topics.CONTROL, 0, self._position, self._generation.encode())
        try:
            self._consumer.commit(offsets=[done], asynchronous=False)
        except KafkaException as error:  # the next commit says the same and more; until then repeats are harmless
            log.warning("offset %d is not committed: %s", self._position, error.args[0].str())
        self._committed = self._position
        self._applied.applied(self._position)
        metrics.POSITION.set(self._position)

    def _tick(self) -> None:
        """A tick to every partition, or a proof of our clock when it needs one. Nothing while answers are due."""
        if self._unanswered:
            return
        now_ms = self._wall_ms()
        if self._clock.may_tick(now_ms, self._steady_ms()):
            for partition in range(self._partitions):
                self._timed(topics.RAW, now_ms, partition=partition, headers=headers.raw_tick(now_ms))
            self._ticked_at_ms = self._steady_ms()
            metrics.TICKS.inc()
        else:
            key = heartbeat_key(f"relay-{self._settings.instance}")
            self._timed(topics.CONTROL, now_ms, key=key, value=b"%d" % now_ms)

    def _timed(self, topic: str, sent_ms: int, **record: object) -> None:
        """Produce a record whose append time proves our clock."""

        def answered(error: KafkaError | None, message: Message) -> None:
            self._unanswered -= 1
            _delivered(error, message)
            kind, appended_ms = message.timestamp()
            if kind != TIMESTAMP_LOG_APPEND_TIME:
                raise RefusedError(
                    f"topic {topic} has no message.timestamp.type=LogAppendTime; `millrace init` sets it"
                )
            if not self._clock.proved:
                self._next_tick_ms = self._steady_ms()
            self._clock.proof(sent_ms, appended_ms, self._wall_ms(), self._steady_ms())
            metrics.CLOCK_OFF.set(self._clock.off_ms / 1000)
            if self._clock.off_ms > MOST_OFF_MS:
                metrics.WITHHELD.inc()
                self._next_tick_ms = self._steady_ms() + self._settings.tick_ms
                log.error(
                    "the relay's clock and Kafka's differ by %.1f s: ticks are withheld; synchronise the clocks (NTP)",
                    self._clock.off_ms / 1000,
                )

        self._unanswered += 1
        self._producer.produce(topic, on_delivery=answered, **record)


def _delivered(error: KafkaError | None, message: Message) -> None:
    if error is not None:
        raise FatalError(f"Kafka refused a record of {message.topic()}: {error.str()}")
