"""A batch's rows brought together by series, each with what came before it: so that detectors that look back work on
whole columns, though a series may stand in a batch many times."""

from typing import Any

import numpy as np

from runtime.columns.grouped import Grouped
from runtime.columns.types import Bool, Float64, Int32, Int64
from streams.anomaly.core.memory import Memory


class Sequence:
    """Columns in order of (series, row); `order` says which row of the batch each is.

    `series` and the memory's columns are by group; `rows` of them are gathered with `of`. `known`: there was a reading
    before; then `before` and `before_ms` are its value and event time.
    """

    def __init__(self, memory: Memory, series: Int32, time_ms: Int64, value: Float64) -> None:
        groups = Grouped(series)
        self.groups, self.order = groups, groups.order
        self.series: Int32 = groups.device
        self.starts, self.of = groups.starts, groups.of
        self.value, self.time_ms = value[self.order], time_ms[self.order]
        self.known = self._shifted(np.ones(len(series), bool), memory.readings[self.series] > 0)
        self.before = self._shifted(self.value, memory.last[self.series])
        self.before_ms = self._shifted(self.time_ms, memory.last_ms[self.series])

    def _shifted(self, column: Any, first: Any) -> Any:
        """Each row's predecessor in its series; of the first row what was remembered."""
        found = np.empty(len(column), column.dtype)
        found[1:] = column[:-1]
        found[self.starts] = first
        return found

    def shifted(self, column: Any, first: Any) -> Any:
        """`column` one row later; `first`: by group, what stands before its first row."""
        return self._shifted(column, first)

    def since(self, change: Bool) -> tuple[Int64, Bool]:
        """(place of the last row at or before each at which `change` holds, whether there is one in its series). Where
        there is none the place is that of the series' first row."""
        place = np.arange(len(change))
        at = np.where(change, place, 0)
        at[self.starts] = self.starts
        at = np.maximum.accumulate(at)
        return at, change[at]

    def carried(self, change: Bool, column: Any, first: Any) -> Any:
        """`column` as it was at the last change; `first`: by group, what holds until there is one."""
        at, found = self.since(change)
        return np.where(found, column[at], first[self.of])

    def last(self) -> Int64:
        """Place of each series' last row."""
        return self.groups.last()

    def remember(self, memory: Memory) -> None:
        """Take over the last readings, once all detectors have spoken."""
        last = self.last()
        memory.last[self.series], memory.last_ms[self.series] = self.value[last], self.time_ms[last]
        memory.readings[self.series] += self.groups.sizes.astype(np.int32)
