"""A batch's rows brought together by series, each with what came before it: so that detectors that look back work on
whole columns, though a series may stand in a batch many times."""

from typing import Any

import numpy as np

from runtime.columns.grouped import Grouped
from runtime.columns.types import Bool, Float64, Int32, Int64
from streams.anomaly.core.memory import Memory


class Sequence:
    """Columns in order of (series, row); `order` says which row of the batch each is.

    `series` and the memory's columns are by group: one entry for each series; `spread` gives each row that of its
    series. `known`: there was a reading before; then `before` and `before_ms` are its value and event time. `once`: no
    series occurs twice, which most batches are: much is simple then.
    """

    def __init__(self, memory: Memory, series: Int32, time_ms: Int64, value: Float64) -> None:
        groups = Grouped(series)
        self.groups, self.order = groups, groups.order
        self.series: Int64 = groups.device.astype(np.int64)  # what numpy gathers by
        self.starts = groups.starts
        self.once = len(self.starts) == len(series)
        self.value, self.time_ms = value[self.order], time_ms[self.order]
        self.known = self.shifted(None, memory.readings[self.series] > 0)
        self.before = self.shifted(self.value, memory.last[self.series])
        self.before_ms = self.shifted(self.time_ms, memory.last_ms[self.series])

    def spread(self, by_series: Any) -> Any:
        """A column by series, for each row."""
        return by_series if self.once else by_series[self.groups.of]

    def shifted(self, column: Any, first: Any) -> Any:
        """`column` one row later (None: true); `first`: by series, what stands before its first row."""
        if self.once:
            return first
        found = np.ones(len(self.order), first.dtype)
        if column is not None:
            found[1:] = column[:-1]
        found[self.starts] = first
        return found

    def since(self, change: Bool) -> tuple[Int64, Bool]:
        """(place of the last row at or before each at which `change` holds, whether there is one in its series). Where
        there is none the place is that of the series' first row."""
        place = np.arange(len(change))
        if self.once:
            return place, change
        at = np.where(change, place, 0)
        at[self.starts] = self.starts
        at = np.maximum.accumulate(at)
        return at, change[at]

    def carried(self, change: Bool, column: Any, first: Any) -> Any:
        """`column` as it was at the last change; `first`: by series, what holds until there is one."""
        at, found = self.since(change)
        return np.where(found, column if self.once else column[at], self.spread(first))

    def firsts(self, column: Any) -> Any:
        """A column at each series' first row."""
        return column if self.once else column[self.starts]

    def lasts(self, column: Any) -> Any:
        """A column at each series' last row."""
        return column if self.once else column[self.groups.last()]

    def greatest(self, column: Any) -> Any:
        """The greatest of each series."""
        return column if self.once else np.maximum.reduceat(column, self.starts)

    def count(self, flags: Bool) -> Any:
        """How many of each series' rows have the flag."""
        return flags if self.once else np.add.reduceat(flags, self.starts, dtype=np.int32)

    def remember(self, memory: Memory) -> None:
        """Take over the last readings, once all detectors have spoken."""
        memory.last[self.series], memory.last_ms[self.series] = self.lasts(self.value), self.lasts(self.time_ms)
        memory.readings[self.series] += self.groups.sizes.astype(np.int32)
