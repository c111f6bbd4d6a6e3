"""The residual detector: how strange is a reading, given what its series did before?

Constant work and constant state a series, whole batches at once; docs/detection.md tells how it works. The arithmetic
is in residual_kernel.py. Here it is applied to columns: rows of different series at once; rows of one series in their
order. Pure: the same rows give the same bytes, however they are cut into batches.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.grouped import Grouped
from runtime.columns.types import Bool, Float64, Int32, Int64
from streams.anomaly.core.residual_kernel import ARRAYS, COLUMNS, FLOATS, SIGNALS, step

HOURS: Final = 24
_HOUR_MS: Final = 3_600_000
_FEW: Final = 24
"""So many series at once are dearer as arrays than one reading at a time."""
_GREATEST: Final = 1e30
"""Values are judged as if they were no greater: their squares must stay finite, and 1e300 is no less strange for it."""
_OFTEN: Final = 255


@dataclass(frozen=True, slots=True)
class Found:
    """Of each row, in the order given. `score`: 0..1, 0 during the warm-up and for values that are not finite.

    `low`, `high`: the range expected before the reading was seen, in the unit of the value; NaN during the warm-up.
    `signal`: which of SIGNALS was the strangest.
    """

    score: Float64
    alert: Bool
    low: Float64
    high: Float64
    signal: Int32

    def strangest(self, row: int) -> str:
        """The name of a row's signal, for an explanation."""
        return SIGNALS[int(self.signal[row])]


class Residual:
    """The detectors of many series. `state`: float64[series, columns]; `hour`: float32[series, 24], the mean value of
    each hour of the day (UTC); `seen`: uint8[series, 24], how often each was met, up to 255."""

    def __init__(self, capacity: int = 0) -> None:
        self.state: Float64 = np.zeros((capacity, len(COLUMNS)))
        self.hour: Any = np.zeros((capacity, HOURS), np.float32)
        self.seen: Any = np.zeros((capacity, HOURS), np.uint8)

    def grow(self, capacity: int) -> None:
        """Room for series 0 to capacity - 1; never shrinks."""
        for name, array in self.arrays().items():
            if capacity > len(array):
                more = np.zeros((capacity - len(array), array.shape[1]), array.dtype)
                setattr(self, name, np.concatenate([array, more]))

    def arrays(self) -> dict[str, Any]:
        """All that is remembered, by name, for a snapshot: the arrays themselves, copy before the next step."""
        return {"state": self.state, "hour": self.hour, "seen": self.seen}

    @classmethod
    def restored(cls, arrays: dict[str, Any]) -> "Residual":
        """The way back from `arrays()`. They are copied."""
        found = cls()
        for name, empty in found.arrays().items():
            array = np.array(arrays[name])
            if array.shape[1:] != empty.shape[1:] or array.dtype != empty.dtype:
                raise ValueError(f"residual: {name} is {array.dtype}{array.shape}, not of this version")
            setattr(found, name, array)
        return found

    def step(self, series: Int32, time_ms: Int64, value: Float64, sensitivity: Float64 | None = None) -> Found:
        """Judge rows in their order and learn from them. A series may stand many times.

        `sensitivity` scales the threshold of each row's series: 2.0 asks for twice as strange. Times may run backwards.
        """
        n = len(series)
        found = Found(np.zeros(n), np.zeros(n, bool), np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, np.int32))
        rows = positions(np.isfinite(value))
        if not len(rows):
            return found
        x = np.clip(value[rows], -_GREATEST, _GREATEST)
        slot = time_ms[rows] // _HOUR_MS % HOURS
        scale = np.ones(len(rows)) if sensitivity is None else sensitivity[rows]
        given = series[rows], slot, x, scale
        groups = Grouped(series[rows])
        if len(groups.starts) == len(rows):
            _parts(self, given, np.arange(len(rows)), rows, found)
            return found
        for part in _rounds(groups):
            _parts(self, given, part, rows, found)
        return found


def _rounds(groups: Grouped) -> list[Any]:
    """Rows that may be judged at once, then those that must follow: the k-th rows of all series make round k."""
    order = np.argsort(groups.rank, kind="stable")
    ranks = groups.rank[order]
    return np.split(groups.order[order], positions(np.diff(ranks)) + 1)


def _parts(detector: Residual, given: Any, part: Any, rows: Any, found: Found) -> None:
    series, slot, x, scale = (column[part] for column in given)
    if len(part) < _FEW:
        for i, row in enumerate(rows[part].tolist()):
            _one(detector, int(series[i]), int(slot[i]), float(x[i]), float(scale[i]), row, found)
        return
    at = series.astype(np.int64) * HOURS + slot
    hour, seen = detector.hour.reshape(-1), detector.seen.reshape(-1)
    state = list(np.ascontiguousarray(detector.state[series].T))
    met = seen[at].astype(np.float64)
    after, mean, told, signal = step(ARRAYS, state, hour[at].astype(np.float64), met, x, scale)
    detector.state[series] = np.array(after).T
    hour[at] = mean
    seen[at] = np.minimum(met + 1.0, _OFTEN)
    to = rows[part]
    found.score[to], found.alert[to], found.low[to], found.high[to] = told
    found.signal[to] = signal


def _one(detector: Residual, series: int, slot: int, x: float, scale: float, row: int, found: Found) -> None:
    met = float(detector.seen[series, slot])
    state, mean = detector.state[series].tolist(), float(detector.hour[series, slot])
    after, mean, told, signal = step(FLOATS, state, mean, met, x, scale)
    detector.state[series] = after
    detector.hour[series, slot] = mean
    detector.seen[series, slot] = min(met + 1.0, _OFTEN)
    found.score[row], found.alert[row], found.low[row], found.high[row] = told
    found.signal[row] = signal
