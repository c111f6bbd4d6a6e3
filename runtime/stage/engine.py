"""The engine of a stage: apply records in order, write outputs, snapshot, load. Faust calls it through
`faust_app.Flow`.

Promises kept here (each is needed; see the protocol's model in the tests):
- Outputs leave in order and without gaps (outbox.py).
- A snapshot is frozen between two records, and stored only after every output up to it was acknowledged.
- What is committed follows the snapshots; what is loaded is the newest snapshot, and reading starts after it.
- Memory is kept over a rebalance only if nobody else stored a snapshot meanwhile.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from confluent_kafka import Message as Fetched

from runtime.errors import FatalError, RefusedError
from runtime.stage import metrics, store
from runtime.stage.admission import Options, reset
from runtime.stage.assigned import AssignedPartition, Message, Refetched, take_over
from runtime.stage.chunks import CUT, Cut
from runtime.stage.contract import Divisible, Frozen, Observed, Output, Record, Stage
from runtime.stage.keeper import CommitCovered, Keeper, PartitionLostError
from runtime.stage.newest import last_manifest
from runtime.stage.orders import Orders
from runtime.stage.outbox import Outbox
from runtime.stage.provenance import NONE, START, Decision, GapError, Highest, after, judge
from runtime.stage.rescue import copied, is_divisible, replayed, rescue
from runtime.stage.snapshot import Written
from runtime.tasks import in_thread
from schemas import topics as names
from schemas.control import TopicFacts
from schemas.errors import ContractError
from schemas.headers import Provenance, kind_of, table
from schemas.skips import SKIP_LOST, Skip, Skips
from schemas.topics import state_topic
from schemas.vocabulary import Kind

log = logging.getLogger(__name__)
_COPY_AHEAD_RECORDS: Final = 100
"""After a record on which the stage raised, the state is copied before each of so many: such records come in bursts,
and restoring the state from the snapshot costs more."""


class Engine:
    """One worker's partitions of one stage. All methods run on one event loop."""

    def __init__(self, stage: Stage, facts: TopicFacts, epoch: int, options: Options, cut: Cut = CUT) -> None:
        self.stage, self.facts, self.epoch, self.options = stage, facts, epoch, options
        self.assigned: dict[int, AssignedPartition] = {}
        self.loaded = False
        self.drained = asyncio.Event()
        self._derived = stage.source != names.RAW
        self._open = False
        self._round = self._loads = 0
        self._safe: dict[int, int] = {}
        self._discarded: set[int] = set()
        self._flow = asyncio.Lock()
        self._storing = asyncio.Lock()
        self._cut = cut
        self._outbox: Outbox | None = None
        self._keeper: Keeper | None = None
        self._commit: CommitCovered | None = None
        self._reader: Callable[[], store.Reader] | None = None
        self._same_topics: Callable[[], None] | None = None
        self._orders = Orders(stage, facts.epoch)
        self._observe = stage.observe if isinstance(stage, Observed) else None
        self._metrics = metrics.StageMetrics(stage.name, stage.outputs)
        self.applied = 0
        """Records handled since the start: whether it makes progress."""

    def connect(
        self,
        outbox: Outbox,
        reader: Callable[[], store.Reader],
        same_topics: Callable[[], None],
        commit: CommitCovered,
        orders: Orders | None = None,
    ) -> None:
        """Connect to Kafka; called once, before any other method. `outbox` takes outputs and snapshots, `reader` opens
        a reader of snapshots; `same_topics` blocks, and raises RefusedError when a topic was re-created; `commit`
        commits the offsets that snapshots cover and returns the partitions for which the group accepted it: they are
        still assigned to this worker."""
        self._outbox, self._reader, self._same_topics, self._commit = outbox, reader, same_topics, commit
        self._keeper = Keeper(state_topic(self.stage.name), outbox, self._cut, commit)
        self._orders = orders or self._orders

    # --- records

    async def handle(self, message: Message) -> None:
        """Take the next record of a partition. Records that are not the next one are repeats, or a loss."""
        async with self._flow:
            mine = self.assigned.get(message.partition)
            if mine is None or not self._open:
                return
            if message.offset != mine.position:
                self._out_of_order(message, mine)
                return
            await self._apply(message, mine)

    def _out_of_order(self, message: Message, mine: AssignedPartition) -> None:
        if message.offset > mine.position:
            raise FatalError(
                f"{self.stage.source}/{message.partition}: expected offset {mine.position}, got {message.offset};"
                " loading again from the snapshot"
            )
        self._metrics.repeat()

    async def _apply(self, message: Message, mine: AssignedPartition) -> None:
        try:
            record = self._record(message, mine)
            if record is not None:
                before = copied(mine.state.freeze()) if mine.copy_ahead else None
                begin = time.perf_counter()
                try:
                    outputs = mine.state.apply(record)
                except Exception as error:
                    outputs = await self._rescue(record, mine, before, error)
                self._metrics.applied(record, time.perf_counter() - begin)
                if self._observe is not None:
                    self._observe(mine.state, record)
                mine.copy_ahead = max(0, mine.copy_ahead - 1)
                mine.highest = Highest(record.epoch, record.src)
                await self._write(record, mine, outputs)
        except ContractError as error:
            where = f"{self.stage.source}/{message.partition} offset {message.offset}"
            raise await in_thread(self._orders.unreadable, where, message.partition, message.offset, error) from error
        mine.took(message)
        self.applied += 1
        if mine.goal is not None and mine.highest >= mine.goal:
            mine.goal = None
            self._watch_drain()

    def _record(self, message: Message, mine: AssignedPartition) -> Record | None:
        """What is to be applied; None: it is a repeat of its writer, or skipped."""
        if self._orders.skips:
            skip = self._orders.skips.get(message.partition, {}).get(message.offset)
            if skip is not None:
                return self._skipped(message, mine, skip)
        headers = table(message.headers)
        kind = kind_of(headers)
        highest = self._judge(message, mine, headers)
        if highest is None:
            return None
        value = message.value or b""
        return Record(message.partition, message.offset, highest.epoch, highest.src, kind, headers, value)

    def _skipped(self, message: Message, mine: AssignedPartition, skip: Skip) -> Record | None:
        """What is applied in place of a record that is to be skipped, which may hold anything; None: nothing. Without
        provenance it is no part of what its writer wrote: nothing follows from it."""
        headers = dict(message.headers or ())
        try:
            highest = self._judge(message, mine, headers)
        except ContractError:
            highest = None
        self._metrics.skipped()
        if highest is None:
            return None
        found = Record(
            *(message.partition, message.offset, highest.epoch, highest.src, Kind.DATA, headers, message.value or b"")
        )
        return self._orders.instead(found, skip)

    # --- records on which the stage raises

    async def _rescue(
        self, record: Record, mine: AssignedPartition, before: Frozen | None, error: Exception
    ) -> Sequence[Output]:
        """The outputs of what can be applied of the record. `before`: the state before it, where there is a copy.

        In a thread, with the flow closed: it may take as long as a take-over.
        """
        if not is_divisible(self.stage, record, error):
            raise error
        assert isinstance(self.stage, Divisible)
        log.warning("%s/%d offset %d: %r", self.stage.source, record.partition, record.offset, error)
        if before is None:
            before = await in_thread(self._before, record)
        found = await in_thread(rescue, self.stage, before, record)
        mine.state, mine.copy_ahead = found.state, _COPY_AHEAD_RECORDS
        self._metrics.refused(found.refused)
        return found.outputs

    def _before(self, record: Record) -> Frozen:
        """The state before a record: the newest snapshot and what came since. Blocks."""
        assert self._reader is not None
        assert isinstance(self.stage, Divisible)
        partition, source = record.partition, self.stage.source
        with self._reader() as reader:
            options = replace(self.options, drain=False)
            mine = take_over(self.stage, (self.facts.topic_id, self.epoch), reader, partition, options, discard=False)
            found = reader.scan(source, partition, mine.position, record.offset)
            before = replayed(self.stage, mine.state, self._again(found, mine))
        if mine.position != record.offset:
            raise FatalError(
                f"{source}/{partition}: records {mine.position} to {record.offset - 1} cannot be read again;"
                " loading again from the snapshot"
            )
        return before

    def _again(self, messages: Iterable[Fetched], mine: AssignedPartition) -> Iterator[Record]:
        for message in messages:
            found = Refetched.of(message)
            record = self._record(found, mine)
            if record is not None:
                mine.highest = Highest(record.epoch, record.src)
                yield record
            mine.took(found)

    def _judge(self, message: Message, mine: AssignedPartition, headers: Mapping[str, bytes]) -> Highest | None:
        """Provenance of a record to apply; None: it is a repeat of its writer."""
        if not self._derived:
            return Highest(self.epoch, message.offset)
        found = Provenance.parse(headers)
        where = f"{self.stage.source}/{message.partition} offset {message.offset}"
        try:
            decision = judge(mine.highest, found, where)
        except GapError as error:
            if not mine.gap_accepted:
                resolve = reset(self.stage.name, message.partition, SKIP_LOST)
                raise RefusedError(
                    f"{error}, or go on without what is missing (the ledger shows the difference): {resolve}"
                ) from None
            mine.gap_accepted = False
            log.warning("%s; continuing because of --skip-lost", error)
            return after(found)
        if decision is Decision.DROP:
            self._metrics.repeat()
            return None
        return after(found)

    async def _write(self, record: Record, mine: AssignedPartition, outputs: Sequence[Output]) -> None:
        here = Highest(record.epoch, record.src)
        for output in outputs:
            topic = output.topic
            before = mine.written.get(topic, Written())
            known = mine.known.get(topic, START)
            if topic not in self.stage.outputs or before.last >= here:
                raise FatalError(f"{self.stage.name} gave two outputs for {topic}, or one for a foreign topic")
            if here <= known:
                self._metrics.known(topic)
                mine.written[topic] = replace(before, last=here)
                continue
            last = max(before.last, known)
            link = Provenance(here.epoch, here.src, last.src if last.epoch == here.epoch else NONE)
            assert self._outbox is not None
            await self._outbox.send(topic, record.partition, output.value, [*output.headers, *link.encode()])
            mine.written[topic] = replace(before, last=here)
            self._metrics.written(topic, len(output.value))

    def _watch_drain(self) -> None:
        if self.options.drain and self.loaded and all(mine.goal is None for mine in self.assigned.values()):
            self.drained.set()

    # --- snapshots

    async def snapshot(self) -> int:
        """Store a snapshot of every partition that moved since its last one, and commit. Returns bytes written.

        What no snapshot needs any more is dropped once the group has taken the commit: one who has lost the partition
        without knowing it can then drop nothing that its successor reads.
        """
        async with self._storing:
            current, loads, wrote = self._round, self._loads, dict[int, int]()
            dirty = [p for p, mine in self.assigned.items() if mine.dirty and not mine.lost]
            if dirty and self._same_topics is not None:
                await in_thread(self._same_topics)
            for partition in dirty:
                if current != self._round:
                    break  # partitions go or come: who does that takes a snapshot of its own
                wrote[partition] = await self._snapshot(partition, self.assigned[partition])
            await self._drop([p for p, size in wrote.items() if size], loads)
            return sum(wrote.values())

    async def _snapshot(self, partition: int, mine: AssignedPartition) -> int:
        begin = time.perf_counter()
        assert self._outbox is not None
        assert self._keeper is not None
        mark = partial(mine.mark, self.stage.logic_version)
        copy, snapshot, waited_s = await self._keeper.copy(lambda: mine.state.freeze(), self._flow, mark)
        self._metrics.frozen(partition, waited_s)
        try:
            snapshot = snapshot.reaching(await self._outbox.settled(partition))
            stats = await self._keeper.store(partition, mine.snapshots, snapshot, copy)
        except PartitionLostError:
            self._fenced(partition, "no snapshot was stored")
            mine.dirty = mine.lost = True
            return 0
        except BaseException:
            mine.dirty = True  # broken off (a stop): what was copied is not stored
            raise
        mine.meta = snapshot
        self._safe[partition] = snapshot.position
        took_s = time.perf_counter() - begin
        self._metrics.snapshot(partition, stats, took_s)
        self._log(
            "snapshot stored", partition, took_s,
            position=snapshot.position, manifest=mine.snapshots.manifest, bytes=stats.written_bytes,
            outputs={topic: written.offset for topic, written in snapshot.written.items()},
        )  # fmt: skip
        return stats.written_bytes

    def _log(self, transition: str, partition: int, took_s: float, **more: object) -> None:
        """The one line of a transition."""
        known = {"partition": partition, "epoch": self.epoch, "seconds": round(took_s, 3)}
        log.info(transition, extra=known | more)

    def _fenced(self, partition: int, outcome: str) -> None:
        at = {"partition": partition, "epoch": self.epoch, "position": self.assigned[partition].position}
        log.warning("fenced: the group has assigned the partition to another worker; %s", outcome, extra=at)

    async def _drop(self, stored: Sequence[int], loads: int) -> None:
        assert self._commit is not None
        assert self._keeper is not None
        begin = time.perf_counter()
        ours = await self._commit() if stored else set()
        if loads != self._loads:
            ours = set()  # another worker may have owned them in between
        for partition in stored:
            if partition in ours:
                self._log("committed", partition, time.perf_counter() - begin, position=self._safe.get(partition))
                await self._keeper.drop(partition, self.assigned[partition].snapshots)
            else:
                self._fenced(partition, "its commit was refused")
                self.assigned[partition].lost = True

    # --- taking over and handing over

    async def hand_over(self) -> None:
        """Finish the record in hand and take no more, then snapshot: the next owner applies what follows."""
        begin = time.perf_counter()
        self._open = False
        self._round += 1
        async with self._flow:
            pass  # the record in hand is applied, and its partition knows that it has moved
        await self.snapshot()
        if self.loaded:
            for partition, position in self.positions().items():
                self._log("handed over", partition, time.perf_counter() - begin, position=position)

    def release(self) -> None:
        """The partitions are gone. Their states stay in memory: they may well come back unchanged."""
        if self.loaded:
            for partition, position in self.positions().items():
                self._log("revoked", partition, 0.0, position=position)
        self.loaded = False
        self._safe.clear()

    async def load(self, assigned: set[int]) -> None:
        """Make these partitions ours: their newest snapshots, judged against the topics as they are. Raises
        RefusedError when going on would lose or double something."""
        self._round += 1
        self._loads += 1
        current = self._round
        begin = time.perf_counter()
        for partition in sorted(assigned):
            self._log("assigned", partition, 0.0)
        async with self._storing:
            self._open = False
            for partition in set(self.assigned) - assigned:
                del self.assigned[partition]
                self._metrics.forget(partition)
            taken, found = await in_thread(self._read, sorted(assigned))
            self.assigned.update(taken)
            self._orders.take(found, assigned)
            self._discarded.update(taken)
            self._safe = {p: self.assigned[p].meta.position for p in assigned}
            if current != self._round:
                return  # another rebalance began meanwhile; it loads again
            self._open = self.loaded = True
        self._begun(assigned, taken, time.perf_counter() - begin)
        if taken:
            await self.snapshot()
        self._watch_drain()

    def _begun(self, assigned: set[int], taken: Mapping[int, AssignedPartition], took_s: float) -> None:
        self._metrics.taken_over(len(assigned), took_s)
        for partition in sorted(assigned):
            mine = self.assigned[partition]
            self._log(
                "loaded", partition, took_s,
                position=mine.position, manifest=mine.snapshots.manifest, kept=partition not in taken,
                outputs={topic: written.offset for topic, written in mine.written.items()},
            )  # fmt: skip

    def _read(self, partitions: list[int]) -> tuple[dict[int, AssignedPartition], Skips]:
        """Blocking, in a thread; the flow is closed meanwhile. Changes nothing."""
        assert self._reader is not None
        found = self._orders.read()
        with self._reader() as reader:
            return {p: mine for p in partitions if (mine := self._take(reader, p, found)) is not None}, found

    def _take(self, reader: store.Reader, partition: int, found: Skips) -> AssignedPartition | None:
        """The partition as stored; None when what we have in memory is what was stored, or newer."""
        end = reader.bounds(state_topic(self.stage.name), partition)[1]
        current = self.assigned.get(partition)
        if current is not None and not current.lost and current.snapshots.end == end:
            return None
        manifest = last_manifest(reader, state_topic(self.stage.name), partition) if found.resets else 0
        options = self._orders.options(found, partition, manifest, self.options)
        discard = options.from_oldest and (partition not in self._discarded or not self.options.from_oldest)
        return take_over(self.stage, (self.facts.topic_id, self.epoch), reader, partition, options, discard)

    # --- what others ask

    def positions(self) -> dict[int, int]:
        return {p: mine.position for p, mine in self.assigned.items()}

    def committable(self) -> dict[int, int]:
        return self._safe

    def wrong(self) -> str | None:
        """For readiness."""
        return None if self.loaded else "partitions are not assigned and loaded yet"

    def behind(self, high: Mapping[int, int | None]) -> bool:
        """Whether a partition has records to apply. `high`: the source's end by partition, where it is known."""
        return any((high.get(p) or 0) > mine.position for p, mine in self.assigned.items())

    def observe(self, high: Mapping[int, int | None]) -> None:
        """Set the gauges. `high`: the source's end by partition, where it is known."""
        for partition, mine in self.assigned.items():
            self._metrics.observe(partition, mine.position, high.get(partition), mine.state.sizes())
