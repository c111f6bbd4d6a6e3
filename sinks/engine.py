"""The sink's one loop: consume all logs, cut ranges, have them written, commit. A thread of its own.

Everything about a partition lives from its assignment to its revocation; nothing outlives that but Kafka's commit and
ClickHouse's tables.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Final, TypeVar

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from runtime.errors import RefusedError, RetryableError
from runtime.lifecycle import die
from runtime.retry import StoppedError, retry
from runtime.stage.provenance import START
from runtime.tasks import in_thread
from schemas import topics
from schemas.control import TopicFacts
from sinks import metrics
from sinks.adapters import kafka
from sinks.adapters.tables import Tables
from sinks.core.budget import Budget, Use
from sinks.core.flow import Flow, Range
from sinks.core.logs import LOGS
from sinks.core.records import Arrival, UnreadableRecordError
from sinks.core.start import Found, Start, decide
from sinks.orders import Orders
from sinks.settings import SinkSettings
from sinks.writer import STANDSTILL_S, Writer

log = logging.getLogger(__name__)
T = TypeVar("T")
Key = tuple[str, int]

_TURN_S: Final = 0.02
_LAG_EVERY_S: Final = 1.0
COMMITTED_EVERY_S: Final = 60.0
"""Seconds between two lines at INFO that a partition was committed."""


def _where(flow: Flow) -> dict[str, object]:
    """What every line about a partition says."""
    return {"where": flow.where, "epoch": flow.epoch}


def silence_s(settings: SinkSettings) -> float:
    """Seconds without progress after which the engine is not live: a write that hangs ends by ClickHouse's timeout."""
    return 60.0 + 2 * settings.clickhouse_timeout_s


class Engine:
    """`facts` are the identities of all topics. `beat` is called whenever the engine made progress or waits for what
    readiness shows. `trouble` is why it waits at the moment, or None."""

    def __init__(
        self,
        settings: SinkSettings,
        facts: dict[str, TopicFacts],
        tables: Tables,
        writer: Writer,
        orders: Orders,
        beat: Callable[[], None],
    ) -> None:
        self.settings, self.facts, self.tables, self.writer = settings, facts, tables, writer
        self._orders, self._beat = orders, beat
        self._attempts = -1
        self.flows: dict[Key, Flow] = {}
        self.trouble: str | None = None
        self._writing: dict[Key, tuple[Flow, Range, Future[bool]]] = {}
        self._began: dict[Key, float] = {}
        self._paused: set[Key] = set()
        self.most_held = 0
        """The most bytes that all partitions held together."""
        self._budget = Budget(settings.sink_buffer_bytes, settings.sink_range_bytes)
        self._failure: BaseException | None = None
        self._say_at: dict[Key, float] = {}
        self._lag_at, self._turned_at = 0.0, time.monotonic()
        self._stop = threading.Event()
        self._consumer: Consumer = kafka.connect(settings, self._on_error)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    # ---- the service's side

    async def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        """Finish the inserts under way and commit them; what is still open is read again at the next start."""
        self._stop.set()
        self.writer.give_up()
        await in_thread(self._thread.join)
        self.writer.close()

    def not_ready(self) -> str | None:
        """For the readiness probe."""
        waiting = [self.trouble, *self.writer.trouble.values()]
        return next((text for text in waiting if text), None)

    # ---- the loop

    def _run(self) -> None:
        try:
            given = {"on_assign": self._assign, "on_revoke": self._revoke, "on_lost": self._lost}
            self._consumer.subscribe(list(LOGS), **given)
            while not self._stop.is_set():
                self._turn()
            while self._writing:
                self._collect(wait_s=0.05)
            self._commit()
            self._consumer.close()
            log.info("stopped", extra={"partitions": len(self.flows)})
        except StoppedError:
            self._consumer.close()
        except BaseException as error:
            die(self._cause(error), "sink")

    def _cause(self, error: BaseException) -> BaseException:
        """A topic that was deleted shows itself in errors of many kinds, of which a restart would meet another."""
        if not isinstance(error, RefusedError):
            try:
                kafka.check_topics(self.settings, self.facts)
            except RefusedError as found:
                return found
            except RetryableError:
                pass
        return error

    def _turn(self) -> None:
        self._notice_standstill()
        for message in self._consumer.consume(self._budget.records(self._held()), _TURN_S):
            self._take(message)
        if self._failure is not None:
            raise self._failure
        self._collect()
        self._commit()
        self._write()
        self._bound_memory()
        self._show_lag()
        self._note_progress()

    def _note_progress(self) -> None:
        """An insert that neither ends nor fails is none."""
        if not self._writing or self._attempts != self.writer.attempts:
            self._attempts = self.writer.attempts
            self._beat()

    def _notice_standstill(self) -> None:
        before, self._turned_at = self._turned_at, time.monotonic()
        if self._turned_at - before > STANDSTILL_S:
            for flow in self.flows.values():
                flow.doubt = True

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            kafka.check(error, f"{message.topic()}[{message.partition()}]")
            return
        flow = self.flows.get((message.topic() or "", message.partition() or 0))
        if flow is not None:
            repeats = flow.repeats
            record = kafka.arrival(message)
            self._budget.take(len(record.value))
            self._add(flow, record, int(time.time() * 1000) - record.appended_ms)
            if flow.repeats > repeats:
                metrics.REPEATS.labels(flow.topic).inc()

    def _add(self, flow: Flow, record: Arrival, lag_ms: int) -> None:
        if not self._orders.skips(flow, record.offset):
            try:
                flow.take(record, lag_ms)
                return
            except UnreadableRecordError:
                self._orders.read_again()
                if not self._orders.skips(flow, record.offset):
                    raise
        flow.put(record, self._orders.instead(flow, record), lag_ms)

    def _write(self) -> None:
        for key, flow in self.flows.items():
            part = flow.next()
            if part is not None and key not in self._writing:
                self._began[key] = time.monotonic()
                self._writing[key] = (flow, part, self.writer.write(flow, part))

    def _collect(self, wait_s: float = 0.0) -> None:
        """Take back the ranges that are written. An error of a writer ends the process."""
        if wait_s:
            time.sleep(wait_s)
        for key, (flow, part, future) in list(self._writing.items()):
            if future.done():
                del self._writing[key]
                if future.result() and flow.owned:
                    flow.stored(part)

    def _commit(self) -> None:
        """One synchronous commit of all that is stored. What Kafka cannot take now is tried at the next turn."""
        waiting = {key: flow for key, flow in self.flows.items() if flow.to_commit is not None}
        if not waiting:
            return
        with metrics.COMMIT_SECONDS.time():
            done = kafka.commit(self._consumer, {k: f.to_commit for k, f in waiting.items() if f.to_commit})
        if not done:
            self.trouble = "Kafka does not take commits"
            return
        self.trouble = None
        for flow in waiting.values():
            part = flow.committed()
            if part is not None:
                metrics.BYTES.labels(flow.topic).inc(part.bytes)
                metrics.RECORDS.labels(flow.topic).inc(part.end - part.first)
                self._say_committed(flow, part)

    def _say_committed(self, flow: Flow, part: Range) -> None:
        """Each range at DEBUG; at INFO the first of a partition, and then one in COMMITTED_EVERY_S."""
        key, now = (flow.topic, flow.partition), time.monotonic()
        due = now >= self._say_at.get(key, 0.0)
        if due:
            self._say_at[key] = now + COMMITTED_EVERY_S
        log.log(
            logging.INFO if due else logging.DEBUG,
            "committed",
            extra=_where(flow)
            | {"first": part.first, "end": part.end, "rows": sum(e.rows for e in part.entries)}
            | {"took_s": round(now - self._began.get(key, now), 3)},
        )

    def _held(self) -> int:
        """Bytes of Kafka values that all partitions hold, in open ranges too."""
        return sum(flow.bytes for flow in self.flows.values())

    def _bound_memory(self) -> None:
        """Pause partitions while too much is held."""
        held = self._held()
        self.most_held = max(self.most_held, held)
        metrics.BUFFERED.set(held)
        wanted = self._budget.paused({key: self._use(key, flow) for key, flow in self.flows.items()})
        if more := wanted - self._paused:
            self._consumer.pause([TopicPartition(*key) for key in more])
        if fewer := self._paused - wanted:
            self._consumer.resume([TopicPartition(*key) for key in fewer])
        self._paused = wanted
        metrics.PAUSED.set(len(self._paused))

    def _use(self, key: Key, flow: Flow) -> Use:
        if not self._budget.full:
            return Use(flow.bytes, bool(flow.closed), True)
        _low, high = self._consumer.get_watermark_offsets(TopicPartition(*key), cached=True)
        return Use(flow.bytes, bool(flow.closed), high > flow.position)

    def _show_lag(self) -> None:
        if time.monotonic() < self._lag_at:
            return
        self._lag_at = time.monotonic() + _LAG_EVERY_S
        for (topic, number), flow in self.flows.items():
            _low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, number), cached=True)
            stored = flow.closed[0].first if flow.closed else flow.position
            metrics.LAG.labels(topic, number).set(max(0, high - stored))

    # ---- partitions come and go; both are called by the consumer within consume()

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            commits = self._patiently(partial(kafka.committed, consumer, partitions), "commits") if partitions else {}
            if partitions:
                self._patiently(self._orders.read, "skips")
            for tp in partitions:
                began, key = time.monotonic(), (tp.topic, tp.partition)
                start = self._patiently(partial(self._decide, consumer, key, commits[key]), f"{key[0]}[{key[1]}]")
                self.flows[key] = self._flow(key, start)
                tp.offset = start.offset
                took_s = round(time.monotonic() - began, 3)
                found = {"offset": start.offset, "committed": start.committed, "took_s": took_s}
                log.info("assigned", extra=_where(self.flows[key]) | found)
            consumer.assign(partitions)
        except BaseException as error:
            self._failure = error
        metrics.ASSIGNED.set(len(self.flows))

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """The group went on without this member: another may have the partitions already."""
        log.warning("fenced", extra={"partitions": len(partitions), "error": "the group went on without this sink"})
        self._revoke(consumer, partitions)

    def _revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for tp in partitions:
            key = (tp.topic, tp.partition)
            flow = self.flows.pop(key, None)
            if flow is not None:
                flow.owned = False
                log.info("revoked", extra=_where(flow) | {"offset": flow.position})
            self._writing.pop(key, None)
            self._paused.discard(key)
            self._say_at.pop(key, None)
            self._began.pop(key, None)
        metrics.ASSIGNED.set(len(self.flows))

    def _decide(self, consumer: Consumer, key: Key, commit: tuple[int, str] | None) -> Start:
        topic, number = key
        log, epoch = LOGS[topic], self.facts[topic].epoch
        low, high = kafka.ends(consumer, topic, number)
        ledger = self.tables.ledger_end(log, number)
        stored = ledger.highest if ledger else START
        furthest = self.tables.furthest(log, self.facts[topics.RAW].epoch, number, stored)
        found = Found(epoch, low, high, commit, ledger, furthest)
        return decide(f"{topic}[{number}]", found, log.rule(self.settings.rule))

    def _flow(self, key: Key, start: Start) -> Flow:
        topic, number = key
        log, epoch = LOGS[topic], self.facts[topic].epoch
        read = log.reader(epoch, f"{topic}[{number}]")
        return Flow(topic, epoch, number, start, log.rule(self.settings.rule), read, log.timed)

    def _patiently(self, ask: Callable[[], T], what: str) -> T:
        """Ask until it is answered: ClickHouse or Kafka may be away, and nothing can be decided without them."""
        return retry(ask, what, stop=self._stop, notify=self._notice)

    def _notice(self, trouble: str | None) -> None:
        self.trouble = trouble
        self._beat()

    def _on_error(self, error: KafkaError) -> None:
        try:
            kafka.check(error, "consumer")
        except BaseException as failure:
            self._failure = failure
