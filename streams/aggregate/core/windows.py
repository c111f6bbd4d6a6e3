"""Open windows of series: (series, window) → slot, and what was folded into each.

Slots are numbered in order of creation. A closed slot is forgotten and its number not used again, until so many are
closed that the table is rebuilt.
"""

from typing import Any, Final

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.keys import GONE, KeyTable
from runtime.columns.types import Bool, Float64, Int32, Int64
from streams.aggregate.core import partials
from streams.aggregate.core.partials import OPEN, Rows
from streams.aggregate.core.sketches import Sketches

_SERIES_BITS: Final = 20
_SERIES: Final = (1 << _SERIES_BITS) - 1
_LEAST_ROOM: Final = 1 << 10
_LEAST_CLOSED: Final = 1 << 12
"""Closed slots that are not worth a new table."""


class Windows:
    """`open`: how many there are; `earliest`: no open window has a lower index."""

    def __init__(self) -> None:
        self._columns = partials.empty(_LEAST_ROOM, OPEN)
        self.clear()

    def clear(self) -> None:
        """As if there had never been any; all slots must be closed."""
        self._table = KeyTable()
        self._closed = 0
        self.sketches = Sketches()
        self.earliest = np.iinfo(np.int64).max

    @property
    def open(self) -> int:
        return len(self._table) - self._closed

    @property
    def nbytes(self) -> int:
        columns = sum(int(column.nbytes) for column in self._columns.values())
        return self._table.nbytes + self.sketches.nbytes + columns

    def fold(self, series: Int32, window: Int64, times: Int64, values: Float64, with_sketch: bool) -> None:
        """Put readings into windows. `window`: index, the time divided by the window's length; no value is NaN."""
        known = len(self._table)
        slots = self._table.number((window << _SERIES_BITS) | series).astype(np.int64)
        self.earliest = min(self.earliest, int(window.min()))
        if len(self._table) > known:
            self._make_room()
            new = positions(slots >= known)
            partials.begin(self._columns, slots[new], values[new])
        partials.add(self._columns, slots, values, times)
        if with_sketch:
            self.sketches.add(slots, values)
            self.sketches.tidy(self._table.keys != GONE)

    def index(self) -> Int64:
        """int64[slots]: index of each slot's window; see `is_open`."""
        found: Int64 = self._table.keys >> _SERIES_BITS
        return found

    def is_open(self) -> Bool:
        """bool[slots]."""
        found: Bool = self._table.keys != GONE
        return found

    def close(self, slots: Int64) -> Rows:
        """Take these slots (ascending) out: their columns, and `series`, `index`, `buckets`, `counts`, and `size`, how
        many of those each has."""
        keys = self._table.keys[slots]
        rows = partials.closed({name: column[slots] for name, column in self._columns.items()})
        size, buckets, counts = self.sketches.of(slots, len(self._table))
        rows |= {"series": (keys & _SERIES).astype(np.int32), "index": keys >> _SERIES_BITS}
        rows |= {"size": size.astype(np.int32), "buckets": buckets.astype(np.int32), "counts": counts}
        self._forget(slots)
        return rows

    def _forget(self, slots: Int64) -> None:
        self._table.remove(slots)
        for name, (_, nothing) in OPEN.items():
            self._columns[name][slots] = nothing
        self._closed += len(slots)
        if not self.open:
            self.clear()
        elif self._closed > max(_LEAST_CLOSED, self.open):
            self._make_anew()
        self._look_for_earliest()

    def _make_anew(self) -> None:
        """Without the closed slots."""
        is_open = self.is_open()
        self.sketches.renumber(np.where(is_open, np.cumsum(is_open) - 1, -1))
        self._take(self._table.keys[is_open], {name: self._columns[name][: len(is_open)][is_open] for name in OPEN})

    def _take(self, keys: Int64, columns: Rows) -> None:
        self._table = KeyTable()
        self._table.restore(keys)
        self._closed = int((keys == GONE).sum())
        nothing = partials.empty(max(0, _LEAST_ROOM - len(keys)), OPEN)
        self._columns = {name: np.concatenate([columns[name], nothing[name]]) for name in OPEN}

    def _look_for_earliest(self) -> None:
        index = self.index()[self.is_open()]
        self.earliest = int(index.min()) if len(index) else np.iinfo(np.int64).max

    def _make_room(self) -> None:
        room = len(self._columns["count"])
        if len(self._table) > room:
            more = partials.empty(max(len(self._table), 2 * room) - room, OPEN)
            self._columns = {name: np.concatenate([self._columns[name], more[name]]) for name in OPEN}

    def freeze(self) -> dict[str, Any]:
        """As it is, without a copy."""
        size = len(self._table)
        columns = {f"window_{name}": column[:size] for name, column in self._columns.items()}
        return columns | {"windows": self._table.keys} | self.sketches.freeze()

    def restore(self, arrays: dict[str, Any]) -> None:
        """Take what `freeze` gave for what is there."""
        self._take(arrays["windows"], {name: arrays[f"window_{name}"] for name in OPEN})
        self.sketches = Sketches()
        self.sketches.restore(arrays)
        self._look_for_earliest()
