"""The residual detector: how strange is a reading, given what its series did before?

Constant work and constant state a series, whole batches at once; docs/detection.md explains it. The arithmetic
is in residual_kernel.py. Here it is applied to columns: rows of different series at once, rows of one series in their
order. Pure: the same rows give the same bytes, however they are cut into batches.
"""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.grouped import Grouped
from runtime.columns.types import Bool, Float64, Int32, Int64
from streams.anomaly.core.residual_kernel import (
    ALERT,
    ARRAYS,
    COLUMNS,
    FLOATS,
    FRESH,
    OF_SERIES,
    OF_SIGNAL,
    SIGNALS,
    WARM_UP,
    Reading,
    reset,
    step,
)

__all__ = ["ALERT", "HOURS", "SIGNALS", "WARM_UP", "Found", "Residual"]

HOURS: Final = 24
_HOUR_MS: Final = 3_600_000
_FEW: Final = 24
"""Rows of so few series are dearer as arrays than one after the other."""
_GREATEST: Final = 1e30
"""Values are judged as if they were no greater: their squares must stay finite, and 1e300 is no less strange for it."""
_OFTEN: Final = 255
_PER_SERIES: Final = len(OF_SERIES)


@dataclass(frozen=True, slots=True)
class Found:
    """Of each row, in the order given. `score`: 0..1, 0 during the warm-up and for values that are not finite.

    `low`, `high`: where the reading was expected, in the unit of the value (99 of 100 readings lie inside); NaN
    during the warm-up. `signal`: which of SIGNALS was the strangest.
    """

    score: Float64
    alert: Bool
    low: Float64
    high: Float64
    signal: Int32

    @classmethod
    def nothing(cls, n: int) -> Self:
        return cls(np.zeros(n), np.zeros(n, bool), np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, np.int32))

    def strangest(self, row: int) -> str:
        """The name of a row's strangest signal, for an explanation."""
        return SIGNALS[int(self.signal[row])]

    def put(self, rows: Any, judged: Any) -> None:
        self.score[rows], self.alert[rows], self.low[rows], self.high[rows], self.signal[rows] = judged


class Residual:
    """The detectors of many series, by their number.

    `state`: float64[series, COLUMNS]. Of each hour of the day (UTC): `mean`: float64[series, 24], the value; `spread`:
    float32[series, 24], the mean size of the residuals; `seen`: uint8[series, 24], how many readings, up to 255.
    """

    def __init__(self, capacity: int = 0) -> None:
        self.state: Float64 = np.full((capacity, len(COLUMNS)), FRESH)
        self.mean: Float64 = np.zeros((capacity, HOURS))
        self.spread: Any = np.zeros((capacity, HOURS), np.float32)
        self.seen: Any = np.zeros((capacity, HOURS), np.uint8)

    def grow(self, capacity: int) -> None:
        """Room for series 0 to capacity - 1. Never shrinks."""
        more = Residual(max(0, capacity - len(self.state))).arrays()
        for name, array in self.arrays().items():
            setattr(self, name, np.concatenate([array, more[name]]))

    def arrays(self) -> dict[str, Any]:
        """All that is remembered, by name, for a snapshot: the arrays themselves, copy before the next step."""
        return {"state": self.state, "mean": self.mean, "spread": self.spread, "seen": self.seen}

    @classmethod
    def restored(cls, arrays: dict[str, Any]) -> Self:
        """The way back from `arrays()`. They are copied. Raises ValueError for arrays of another form."""
        found = cls()
        for name, empty in found.arrays().items():
            array = np.array(arrays[name])
            if array.shape[1:] != empty.shape[1:] or array.dtype != empty.dtype:
                raise ValueError(f"residual detector: {name} is {array.dtype}{list(array.shape)}, not of this version")
            setattr(found, name, array)
        return found

    def step(
        self,
        series: Int32,
        time_ms: Int64,
        value: Float64,
        threshold: Float64 | None = None,
        groups: Grouped | None = None,
    ) -> Found:
        """Judge rows in their order and learn from them. A series may stand many times, times may run backwards.

        `threshold`: of each row's series, in multiples of the detector's own: 2.0 doubles the limit for an
        alert. `groups`: Grouped(series), if the caller has it already.
        """
        finite = np.isfinite(value)
        asked = np.ones(len(series)) if threshold is None else threshold
        if finite.all():
            columns = _Columns(None, series, time_ms, value, asked)
        else:
            columns, groups = _Columns(positions(finite), series, time_ms, value, asked), None
        groups = Grouped(columns.series) if groups is None else groups
        rank, busy = _rank(groups)
        if busy and len(groups.starts) == len(series):  # each once, and all are judged
            return Found(*self._at_once(columns))
        found = Found.nothing(len(series))
        for k in range(busy):
            part = columns.take(groups.order[rank == k])
            found.put(part.rows, self._at_once(part))
        rest = positions(groups.sizes > busy)
        for group in rest.tolist():
            self._one_by_one(columns.take(groups.rows(group)[busy:]), found)
        return found

    def _at_once(self, given: "_Columns") -> Any:
        """Rows of different series: columns of Found."""
        hours = [array.reshape(-1) for array in (self.mean, self.spread, self.seen)]
        at = given.series * np.int64(HOURS) + given.hour
        mean, spread, seen = (array.take(at).astype(np.float64) for array in hours)
        state = self.state.take(given.series, axis=0).T.copy()
        of_signals = state[_PER_SERIES:].reshape(len(OF_SIGNAL), len(SIGNALS), -1)
        reading = Reading(given.time_ms, given.value, given.threshold, mean, spread, seen)
        of_series, of_signals, mean, spread, judged, turned = step(ARRAYS, state[:_PER_SERIES], of_signals, reading)
        for array, after in zip(hours, (mean, spread, np.minimum(seen + 1.0, _OFTEN)), strict=True):
            array[at] = after
        self.state[given.series] = np.concatenate([of_series, *of_signals]).T
        for number in given.series[turned].tolist():
            self._reset(number)
        return judged

    def _one_by_one(self, given: "_Columns", found: Found) -> None:
        """Rows of one series."""
        number = int(given.series[0])
        mean, spread, seen = self.mean[number], self.spread[number], self.seen[number]
        of_series, of_signals = self._plain(number)
        judged = []
        for hour, time_ms, value, threshold in given.tuples():
            count = int(seen[hour])
            reading = Reading(time_ms, value, threshold, float(mean[hour]), float(spread[hour]), float(count))
            of_series, of_signals, mean[hour], spread[hour], one, turned = step(FLOATS, of_series, of_signals, reading)
            seen[hour] = min(count + 1, _OFTEN)
            judged.append(one)
            if turned:
                self.state[number, :_PER_SERIES] = of_series
                of_series, of_signals = self._reset(number)
        self.state[number] = np.concatenate([of_series, np.array(of_signals).T.reshape(-1)])
        found.put(given.rows, zip(*judged, strict=True))

    def _plain(self, number: int) -> tuple[Any, Any]:
        """(OF_SERIES, OF_SIGNAL of each signal) of a series as lists of floats."""
        of_signals = self.state[number, _PER_SERIES:].reshape(len(OF_SIGNAL), len(SIGNALS))
        return self.state[number, :_PER_SERIES].tolist(), of_signals.T.tolist()

    def _reset(self, number: int) -> tuple[Any, Any]:
        """Forget what was learnt of a series that is judged in another way from now on."""
        state = self.state[number]
        state[:] = *reset(state[:_PER_SERIES].tolist()), *FRESH[_PER_SERIES:]
        self.seen[number] = 0
        return self._plain(number)


class _Columns:
    """Rows to judge: `rows` are their places in what was given."""

    def __init__(self, rows: Any, series: Int32, time_ms: Int64, value: Float64, threshold: Float64) -> None:
        """`rows` None: all."""
        every = slice(None) if rows is None else rows
        self.rows = np.arange(len(series)) if rows is None else rows
        self.series = series[every]
        self.hour = time_ms[every] // _HOUR_MS % HOURS
        self.time_ms = time_ms[every].astype(np.float64)
        self.value = np.minimum(np.maximum(value[every], -_GREATEST), _GREATEST)
        self.threshold = threshold[every]

    def take(self, part: Any) -> "_Columns":
        found = object.__new__(_Columns)
        for name, column in vars(self).items():
            setattr(found, name, column[part])
        return found

    def tuples(self) -> Any:
        return zip(self.hour.tolist(), self.time_ms.tolist(), self.value.tolist(), self.threshold.tolist(), strict=True)


def _rank(groups: Grouped) -> tuple[Int64, int]:
    """(place of each sorted row in its series, how many rounds have enough series to be judged at once)."""
    if len(groups.starts) == len(groups.order):
        return np.zeros(len(groups.order), np.int64), int(len(groups.order) >= _FEW)
    rank = groups.rank
    return rank, int(np.count_nonzero(np.bincount(rank) >= _FEW))
