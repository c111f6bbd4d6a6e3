"""A run of the fleet, whole: what is sent at each tick, and how many messages of each fate must be found afterwards."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np

from local.fleet import payloads
from local.fleet.faults import Label, draw
from local.fleet.kinds import METRICS
from local.fleet.payloads import Voice
from local.fleet.population import CHILDREN, Population, build
from local.fleet.publication import Publication
from local.fleet.schedule import TICK_MS, Clock, Cycle, Fate, Mix, Schedule, Turns
from local.fleet.signals import Int, Signals

SLOW: Final = 0.25
"""Devices with HTTP send so many messages for each one of the others."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A run: so many devices, together `rate` messages a second for `seconds`. The same workload gives the same run.

    `boot` is everybody's first boot number: it must be above those of earlier runs with the same platform.
    `start_ms` is the event time at the start, `factor` how fast the devices' clocks run.
    """

    devices: int
    rate: float
    seconds: float
    seed: int
    boot: int
    start_ms: int
    factor: float = 1.0
    mix: Mix = field(default_factory=Mix)

    @property
    def messages(self) -> int:
        return int(self.rate * self.seconds + 1e-9)


class Message(NamedTuple):
    """One message: who sends it (index of the member), its expected fate, its name, its bytes."""

    device: int
    fate: Fate
    boot: int
    seq: int
    publication: Publication


class Tick(NamedTuple):
    """What is due `due_ms` after the start. `rebooted`: members that restart before they send."""

    due_ms: int
    messages: list[Message]
    rebooted: list[int]


@dataclass(slots=True)
class Expected:
    """Messages by fate, and readings of the accepted ones."""

    messages: int = 0
    accepted: int = 0
    denied: int = 0
    dead_letters: int = 0
    duplicates: int = 0
    readings: int = 0
    reboots: int = 0

    def json(self) -> dict[str, int]:
        return asdict(self)


_FIELD: Final = {
    Fate.ACCEPTED: "accepted",
    Fate.DENIED: "denied",
    Fate.DEAD_LETTER: "dead_letters",
    Fate.DUPLICATE: "duplicates",
}

_FATES: Final = tuple(Fate)


class Plan:
    """The run that a workload describes."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.population: Population = build(workload.devices)
        self._clock = Clock(workload.start_ms, workload.factor)
        end_ms = workload.start_ms + int(workload.seconds * 1000 * workload.factor)
        self._faults = draw(self.population, workload.start_ms, end_ms, self._random(0))

    def _random(self, *path: int) -> np.random.Generator:
        return np.random.default_rng([self.workload.seed, *path])

    def labels(self) -> list[Label]:
        """The truth about the faults."""
        return self._faults.labels(self.population)

    def ticks(self) -> Iterator[Tick]:
        """Everything that is sent, tick by tick."""
        writer = _Writer(self)
        for number, turns in enumerate(self._turns(), 1):
            yield Tick(number * TICK_MS, writer.write(turns), turns.rebooted.tolist())

    def expected(self) -> Expected:
        """What must be found when all of `ticks` was sent once."""
        found = Expected()
        readings = np.array([payloads.samples_of(m) * METRICS for m in self.population.members])
        for turns in self._turns():
            for fate, name in _FIELD.items():
                setattr(found, name, getattr(found, name) + int((turns.fate == fate).sum()))
            found.readings += int(readings[turns.device[turns.fate == Fate.ACCEPTED]].sum())
            found.messages += len(turns.fate)
            found.reboots += len(turns.rebooted)
        return found

    def _turns(self) -> Iterator[Turns]:
        lanes = self._lanes()
        while not all(lane.finished for lane in lanes):
            yield _merge([lane.next_tick() for lane in lanes])

    def _lanes(self) -> list[Schedule]:
        members = self.population.members
        by_http = np.array([m.http for m in members])
        weight = np.array([m.kind.weight for m in members], np.int64)
        worth = np.where(by_http, SLOW, weight)
        slow = int(self.workload.messages * worth[by_http].sum() / worth.sum())
        # invalid JSON is rejected over HTTP before it counts as a message
        strict = replace(self.workload.mix, dead_letters=0.0)
        lanes = ((~by_http, self.workload.messages - slow, self.workload.mix), (by_http, slow, strict))
        return [
            self._lane(np.flatnonzero(who), weight, total, mix, stream)
            for stream, (who, total, mix) in enumerate(lanes, 1)
            if total
        ]

    def _lane(self, device: Int, weight: Int, total: int, mix: Mix, stream: int) -> Schedule:
        rate, random = total / self.workload.seconds, self._random(stream)
        cycle = Cycle(device, weight[device], rate, random)
        members = len(self.population.members)
        return Schedule(cycle, members, total, rate, self.workload.boot, mix, self._faults, self._clock, random)


def _merge(lanes: list[Turns]) -> Turns:
    if len(lanes) == 1:
        return lanes[0]
    return Turns(*(np.concatenate(columns) for columns in zip(*map(_columns, lanes), strict=True)))


def _columns(turns: Turns) -> tuple[Int, ...]:
    return turns.device, turns.fate, turns.boot, turns.seq, turns.time_ms, turns.rebooted


class _Writer:
    """Turns to messages: values for the whole tick at once, bytes one by one."""

    def __init__(self, plan: Plan) -> None:
        self._signals = Signals(plan.population, plan._faults, plan.workload.start_ms, plan._random(3))
        self._noise = plan._random(4)
        self._samples = np.array([payloads.samples_of(m) for m in plan.population.members])
        self._first_child = plan.population.first_child
        names = [c.id for c in plan.population.children]
        first = (self._first_child - len(self._first_child)).tolist()
        self._voices = [
            Voice(member, names[at : at + CHILDREN] if at >= 0 else ())
            for member, at in zip(plan.population.members, first, strict=True)
        ]
        self._last: dict[int, Message] = {}
        self._broken = 0

    def write(self, turns: Turns) -> list[Message]:
        rows, more = self._measure(turns)
        columns = (turns.device, turns.fate, turns.boot, turns.seq, turns.time_ms)
        out: list[Message] = []
        last, voices = self._last, self._voices
        lists = [column.tolist() for column in columns]
        for at, (device, fate, boot, seq, time_ms, row) in enumerate(zip(*lists, rows, strict=True)):
            voice = voices[device]
            if voice.flat is not None and not fate:  # most messages: worth the few lines
                publication = Publication(voice.topic, b"", voice.flat % (time_ms, boot, seq, *row))
            elif fate == Fate.DUPLICATE:
                out.append(last[device]._replace(fate=Fate.DUPLICATE))
                continue
            else:
                publication = self._publication(voice, fate, boot, seq, time_ms, more.get(at) or [row])
            message = last[device] = Message(device, _FATES[fate], boot, seq, publication)
            out.append(message)
        return out

    def _publication(
        self, voice: Voice, fate: int, boot: int, seq: int, time_ms: int, samples: payloads.Samples
    ) -> Publication:
        if fate == Fate.ACCEPTED:
            return voice.write(boot, seq, time_ms, samples)
        if fate == Fate.DENIED:
            return voice.forbid(boot, seq, time_ms, samples[0])
        self._broken += 1
        return voice.malform(boot, seq, self._broken)

    def _measure(self, turns: Turns) -> tuple[list[list[float]], dict[int, payloads.Samples]]:
        """(values of each message; the samples of those that have several)."""
        device, time_ms = turns.device, turns.time_ms
        rows: list[list[float]] = self._signals.measure(device, time_ms, self._noise).tolist()
        pairs = np.flatnonzero(self._samples[device] == 2)
        earlier = self._signals.measure(device[pairs], time_ms[pairs] - payloads.EARLIER_MS, self._noise)
        found: dict[int, payloads.Samples] = {
            row: [values, rows[row]] for row, values in zip(pairs.tolist(), earlier.tolist(), strict=True)
        }
        gateways = np.flatnonzero(self._first_child[device] >= 0)
        children = (self._first_child[device[gateways]][:, None] + np.arange(CHILDREN)).ravel()
        of_children = self._signals.measure_child(children, np.repeat(time_ms[gateways], CHILDREN), self._noise)
        by_gateway = of_children.reshape(-1, CHILDREN, METRICS).tolist()
        return rows, found | dict(zip(gateways.tolist(), by_gateway, strict=True))
