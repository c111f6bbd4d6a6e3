"""Faults with labels: what went wrong with which device, and when. Later detectors are judged by them."""

from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt
import orjson

from local.fleet.kinds import GATEWAY, METRICS
from local.fleet.population import Population

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

DEVICES_WITH_FAULT: Final = 0.05
_SPIKE_SHARE: Final = 0.01
_MIN_SIGMAS: Final = 12.0


class Fault(IntEnum):
    NONE = 0
    SPIKE = 1
    """A moment far off."""
    DRIFT = 2
    """Further and further off."""
    STUCK = 3
    """The same value repeatedly."""
    DROP_OUT = 4
    """Silence."""


@dataclass(frozen=True, slots=True)
class Label:
    """The truth about one fault, in event time: [from_ms, to_ms). `metric` null: the whole device."""

    device: str
    metric: str | None
    fault: str
    from_ms: int
    to_ms: int
    size: float


@dataclass(frozen=True)
class Faults:
    """Columns by member: at most one fault a device. Times are event times, ms; `size` in the metric's unit."""

    fault: Int
    metric: Int
    from_ms: Int
    to_ms: Int
    size: Float

    def silent(self, device: Int, time_ms: Int) -> Bool:
        found: Bool = (self.fault[device] == Fault.DROP_OUT) & self._in(device, time_ms)
        return found

    def _in(self, device: Int, time_ms: Int) -> Bool:
        inside: Bool = (time_ms >= self.from_ms[device]) & (time_ms < self.to_ms[device])
        return inside

    def apply(self, device: Int, time_ms: Int, values: Float, held: Float) -> None:
        """Change `values` (messages x METRICS) in place. `held` (devices x METRICS): what stuck sensors show."""
        rows = np.flatnonzero((self.fault[device] != Fault.NONE) & self._in(device, time_ms))
        if not len(rows):
            return
        who = device[rows]
        kind, column = self.fault[who], self.metric[who]
        part = (time_ms[rows] - self.from_ms[who]) / np.maximum(1, self.to_ms[who] - self.from_ms[who])
        offset = np.where(
            kind == Fault.SPIKE, self.size[who], np.where(kind == Fault.DRIFT, part * self.size[who], 0.0)
        )
        found = values[rows, column] + offset
        values[rows, column] = np.where(kind == Fault.STUCK, held[who, column], found)

    def labels(self, population: Population) -> list[Label]:
        return [self._label(population, d) for d in np.flatnonzero(self.fault).tolist()]

    def _label(self, population: Population, d: int) -> Label:
        member, fault = population.members[d], Fault(self.fault[d])
        metric = None if fault is Fault.DROP_OUT else member.kind.metrics[self.metric[d]].name
        times = int(self.from_ms[d]), int(self.to_ms[d])
        return Label(member.id, metric, fault.name.lower(), *times, round(float(self.size[d]), 6))


def draw(
    population: Population, start_ms: int, end_ms: int, random: np.random.Generator, share: float = DEVICES_WITH_FAULT
) -> Faults:
    """Faults of a run whose event time is [start_ms, end_ms), on this share of the devices. Gateways have none."""
    n = len(population.members)
    can = np.array([m.kind is not GATEWAY for m in population.members])
    chosen = random.permutation(np.flatnonzero(can))[: int(np.ceil(share * n)) if n >= 4 else 0]
    fault = np.zeros(n, np.int64)
    fault[chosen] = 1 + np.arange(len(chosen)) % 4
    metric = random.integers(0, METRICS, n)
    sigma = np.array([[m.noise + m.swing / 4 + 0.01 for m in member.kind.metrics] for member in population.members])
    size = sigma[np.arange(n), metric] * random.uniform(_MIN_SIGMAS, 2 * _MIN_SIGMAS, n)
    span = end_ms - start_ms
    length = np.where(fault == Fault.SPIKE, _SPIKE_SHARE, random.uniform(0.1, 0.3, n)) * span
    begin = start_ms + random.uniform(0.2, 0.65, n) * span
    none = fault == Fault.NONE
    return Faults(fault, metric, begin.astype(np.int64), (begin + length).astype(np.int64), np.where(none, 0.0, size))


def encode(label: Label) -> bytes:
    """One line of a truth file."""
    return orjson.dumps(asdict(label)) + b"\n"
