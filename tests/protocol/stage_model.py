"""Access and a second stage as the frame runs them: snapshots, admission and provenance are runtime.stage's own."""

import copy
import pickle
from dataclasses import dataclass, field, replace
from typing import Any

from runtime.errors import RefusedError
from runtime.stage import snapshot as form
from runtime.stage.admission import LogFacts, OutputEnd, admit, first
from runtime.stage.admission import Options as Asked
from runtime.stage.provenance import NONE, START, Decision, Highest, after, judge
from runtime.stage.snapshot import Written
from schemas.headers import Provenance, Version, kind_of, raw_control
from schemas.vocabulary import Kind
from streams.access.core.replays import Replays, parse
from streams.access.core.runs import Fresh, Run, take
from tests.protocol.bridge_model import messages_of
from tests.protocol.options import Options
from tests.protocol.parts import Fate, Log, Message, Stopped, Stored, derived, fates_of


@dataclass
class AccessState:
    """What access remembers: the real runs of seqs and the real set of replays, and a toy policy."""

    runs: dict[str, list[Run]] = field(default_factory=dict)
    replays: Replays = field(default_factory=Replays)
    version: Version = Version(-1, -1)
    denied: str = ""
    time_ms: int = 0

    def apply(self, record: Stored, logic: int, options: Options) -> list[Fate] | None:
        kind = kind_of(record.found)
        if kind is Kind.CONTROL:
            version = Version.parse(record.found["version"])
            if version > self.version or options.mutant == "old control records count":
                self.version, self.denied = version, record.value.decode()
        elif kind is Kind.TICK:
            self.time_ms = max(self.time_ms, int(record.found["time"]))
        else:
            return [self._fate(m, logic, options) for m in messages_of(record.value)]
        return []

    def _fate(self, message: Message, logic: int, options: Options) -> Fate:
        readable = message.uid % 5 != 4 or logic > 1 or message.replay_of is not None
        verdict = "accepted" if readable else "dead"
        if readable and message.device == self.denied:
            verdict = "denied"
        if self._repeat(message, verdict, options):
            verdict = "duplicate"
        return message.uid, verdict, message.replay_of

    def _repeat(self, message: Message, verdict: str, options: Options) -> bool:
        if message.replay_of is not None and options.mutant != "replays have no identity":
            origin = parse(message.replay_of)
            assert origin is not None
            fresh = self.replays.plan([origin])[0]
            self.replays.commit([origin])
            return not fresh
        if message.seq is None:
            return False
        runs = self.runs.setdefault(message.device, [])
        if options.mutant == "only accepted marks the seq" and verdict != "accepted":
            return take(copy.deepcopy(runs), message.boot, message.seq)[0] is Fresh.REPEAT
        if options.mutant == "below the highest is a repeat" and runs and message.seq <= runs[0].highest:
            return True
        return take(runs, message.boot, message.seq)[0] is not Fresh.NEW


@dataclass
class WindowState:
    """The second stage: accepted readings go to the window of the stream time; a tick closes what is older."""

    clock: int = 0
    open: dict[int, list[int]] = field(default_factory=dict)

    def apply(self, record: Stored, logic: int, options: Options) -> list[Fate] | None:
        for uid, verdict, _ in fates_of(record.value):
            if verdict == "accepted":
                self.open.setdefault(self.clock, []).append(uid)
        if kind_of(record.found) is not Kind.TICK:
            return None
        time = int(record.found["time"])
        self.clock = time if options.mutant == "time goes back" else max(self.clock, time)
        lag = 1 if logic > 1 and time < 1000 else 0
        shut = sorted(w for w in self.open if w + lag < self.clock)
        return [(uid, "accepted", str(w)) for w in shut for uid in self.open.pop(w)]


IN_FLIGHT = 3
"""Outputs on their way at once. They land in order, as an idempotent producer's do: a kill cuts off the tail."""


AWAITS = ("topics checked", "buffers made", "copied", "outputs arrived", "chunks written", "manifest sent", "committed")
"""What a snapshot has done when it waits, in order: a stop may cancel it at any of them. The real engine is cancelled
at each of its awaits in tests/stage/test_stop.py."""


class Worker:
    """A process of a stage that owns the partition, or believes so."""

    def __init__(self, name: str, source: Log, out: Log, states: Log, make: Any, logic: int, options: Options) -> None:
        self.name, self.source, self.out, self.states = name, source, out, states
        self.options, self.logic = options, logic
        self.flying: list[tuple[list[tuple[str, bytes]], bytes]] = []
        self.storing: bytes | None = None
        self.make, self.thread_writes = make, False
        try:
            self._load(make)
        except RefusedError as error:
            raise Stopped(str(error)) from None

    def _facts(self, position: int) -> LogFacts:
        before = self.source.get(position - 1) if self.source.low < position <= self.source.end else None
        last = Provenance.parse(self.out.records[-1].found) if self.out.records else None
        end = OutputEnd(self.out.end, after(last) if last else START)
        fingerprint = before.fingerprint if before is not None else None
        source = self.source
        outputs = {self.out.name: end}
        return LogFacts(source.name, source.topic_id, source.epoch, source.low, source.end, fingerprint, outputs)

    def _load(self, make: Any) -> None:
        if self.states.records:
            stored = form.decode(self.states.records[-1].value)
            meta, state = stored.snapshot, stored.packed
            self.meta = meta
            if self.options.mutant != "no admission":
                self.meta = admit(meta, self.logic, range(self.logic), self._facts(meta.position), Asked())
            self.state = pickle.loads(state)
        else:
            self.meta, self.state = first(self.name, self.logic, 0, self._facts(self.source.low), Asked()), make()
            # the frame stores a first snapshot before the flow opens: "no snapshot" then means that nothing was done
            self.states.append(0, [], form.encode(form.Manifest(self.meta, pickle.dumps(self.state))))
        self.known = self._facts(self.meta.position).outputs[self.out.name].last
        self.position, self.highest = self.meta.position, self.meta.highest
        self.fingerprint = self.meta.fingerprint
        self.written = self.meta.written.get(self.out.name, Written())

    def step(self) -> bool:
        """Take the next record; False when there is none, or enough outputs are on their way."""
        if len(self.flying) >= IN_FLIGHT:
            return False
        if self.position < self.source.low:
            raise Stopped(f"{self.name}: retention overtook")
        if self.position >= self.source.end:
            return False
        record = self.source.get(self.position)
        try:
            origin = self._origin(record)
        except RefusedError as error:
            raise Stopped(str(error)) from None
        self.position, self.fingerprint = self.position + 1, record.fingerprint
        if origin is not None:
            fates = self.state.apply(record, self.logic, self.options)
            self.highest = origin
            if fates is not None:
                self._write(record, fates)
        return True

    def _origin(self, record: Stored) -> Highest | None:
        if self.name == "access":
            return Highest(self.source.epoch, record.offset)
        found = Provenance.parse(record.found)
        if self.options.mutant == "no drop by provenance":
            return after(found)
        if judge(self.highest, found, self.source.name) is Decision.DROP:
            return None
        return after(found)

    def _write(self, record: Stored, fates: list[Fate]) -> None:
        here = self.highest
        if here > self.known:
            last = max(self.written.last, self.known)
            link = Provenance(here.epoch, here.src, last.src if last.epoch == here.epoch else NONE)
            time_ms = int(record.found.get("time", b"0"))
            kind = Kind.DATA if fates else kind_of(record.found)
            self.flying.append(derived(kind, time_ms, fates, link))
        self.written = replace(self.written, last=here)

    def land(self, time_ms: int) -> bool:
        if not self.flying:
            return False
        stored = self.out.append(time_ms, *self.flying.pop(0))
        self.written = replace(self.written, offset=stored.offset)
        return True

    def snapshot(self) -> None:
        if self.storing is not None or (self.flying and self.options.mutant != "snapshot before output"):
            return
        if self.meta.topic_id != self.source.topic_id:
            raise Stopped(f"{self.name}: {self.source.name} was re-created")
        written = replace(self.written, offset=min(self.written.offset, self.out.end - 1))
        meta = replace(
            self.meta, logic_version=self.logic, position=self.position, fingerprint=self.fingerprint,
            highest=self.highest, written={self.out.name: written},
        )  # fmt: skip
        state = self.make() if self.thread_writes else self.state
        self.storing = form.encode(form.Manifest(meta, pickle.dumps(state)))

    def cancel_snapshot(self, at: str, time_ms: int) -> None:
        """A stop cancels the snapshot at one of AWAITS. Before its manifest was sent nothing of it counts; what was
        sent lands. A thread that fills buffers is awaited: else it would go on writing into the next copy."""
        if at in AWAITS[AWAITS.index("manifest sent") :]:
            self.snapshot_lands(time_ms)
        self.storing = None
        self.thread_writes = at == "buffers made" and self.options.mutant == "a cancelled thread is not awaited"

    def snapshot_lands(self, time_ms: int) -> None:
        if self.storing is not None:
            self.states.append(time_ms, [], self.storing)
            self.storing = None


def policy(epoch: int, offset: int, denied: str) -> tuple[list[tuple[str, bytes]], bytes]:
    return raw_control(Version(epoch, offset), "policy"), denied.encode()
