"""How often each bucket of the quantile sketch occurred in each open window, as two sorted arrays and a log.

A reading appends one 64-bit entry, (slot, bucket); a slot is the number of an open window. When the log is as long as
what it adds to, both are sorted and counted, so that a reading is sorted a bounded number of times. Entries of slots
that were closed stay until then: nobody asks for them again.
"""

from typing import Any, Final

import numpy as np

from runtime.columns.types import Bool, Float64, Int64
from schemas import sketch

_BUCKET_BITS: Final = 18
_BUCKET: Final = (1 << _BUCKET_BITS) - 1
_ZERO: Final = 1 << (_BUCKET_BITS - 1)
"""Where bucket 0 lies, so that the entries of a slot are ordered as its buckets."""
_LEAST_LOG: Final = 1 << 16
"""Entries that are not worth sorting."""
_NOTHING: Final = (np.zeros(0, np.int64), np.zeros(0, np.int64))


class Sketches:
    """Those of all open windows."""

    def __init__(self) -> None:
        self._entries, self._counts = _NOTHING
        self._log: list[Int64] = []
        self._logged = 0

    def __len__(self) -> int:
        """Entries kept, those of closed windows too."""
        return len(self._entries) + self._logged

    @property
    def nbytes(self) -> int:
        return int(self._entries.nbytes + self._counts.nbytes + 8 * self._logged)

    def add(self, slots: Int64, values: Float64) -> None:
        """Count the readings' values in their slots. There is no NaN among them."""
        self._log.append(entries_of(slots, sketch.buckets(values)))
        self._logged += len(slots)

    def tidy(self, is_open: Bool) -> None:
        """Sort the log in when it pays. `is_open`: bool[slots]; entries of the others are dropped."""
        if self._logged > max(_LEAST_LOG, len(self._entries)):
            self.renumber(np.where(is_open, np.arange(len(is_open)), -1))

    def renumber(self, new: Int64) -> None:
        """Entries of slot s become those of new[s], or go where that is negative; the order of slots must stay."""
        entries, counts = merged(self._entries, self._counts, *counted(self._whole_log()))
        slots = new.take(entries >> _BUCKET_BITS)
        kept = slots >= 0
        self._entries = ((slots << _BUCKET_BITS) | (entries & _BUCKET))[kept]
        self._counts = counts[kept]
        self._log, self._logged = [], 0

    def of(self, slots: Int64) -> tuple[Int64, Int64, Int64]:
        """(int64[slots] number of buckets of each, the buckets of slot after slot, their counts). `slots` ascend."""
        begins, ends = _edges(self._entries, slots)
        sizes = ends - begins
        where = np.repeat(begins - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
        entries, counts = merged(self._entries[where], self._counts[where], *self._logged_of(slots))
        return *split(entries, slots), counts

    def freeze(self) -> dict[str, Any]:
        """As it is, without a copy."""
        return {"sketch_entries": self._entries, "sketch_counts": self._counts, "sketch_log": self._whole_log()}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Take what `freeze` gave for what is there."""
        self._entries, self._counts, log = (arrays[f"sketch_{name}"] for name in ("entries", "counts", "log"))
        self._log, self._logged = [log], len(log)

    def _whole_log(self) -> Int64:
        if len(self._log) != 1:
            self._log = [np.concatenate(self._log) if self._log else _NOTHING[0]]
        return self._log[0]

    def _logged_of(self, slots: Int64) -> tuple[Int64, Int64]:
        if not self._logged or not len(slots):
            return _NOTHING
        log = self._whole_log()
        slot = log >> _BUCKET_BITS
        asked = np.zeros(int(max(slots[-1], slot.max())) + 1, bool)
        asked[slots] = True
        return counted(log[asked.take(slot)])


def entries_of(slots: Int64, buckets: Int64) -> Int64:
    found: Int64 = (slots << _BUCKET_BITS) + (buckets + _ZERO)
    return found


def split(entries: Int64, slots: Int64) -> tuple[Int64, Int64]:
    """(number of entries of each slot, the buckets of all entries). Entries and slots ascend; slots have them all."""
    begins, ends = _edges(entries, slots)
    return ends - begins, (entries & _BUCKET) - _ZERO


def counted(entries: Int64) -> tuple[Int64, Int64]:
    """(distinct entries ascending, how often each occurs)."""
    found, counts = np.unique(entries, return_counts=True)
    return found, counts


def merged(one: Int64, one_counts: Int64, other: Int64, other_counts: Int64) -> tuple[Int64, Int64]:
    """Two ascending lists of counted entries as one."""
    if not len(one) or not len(other):
        return (other, other_counts) if len(other) else (one, one_counts)
    entries = np.concatenate([one, other])
    order = np.argsort(entries, kind="stable")  # finds the two runs and merges them
    return summed(entries[order], np.concatenate([one_counts, other_counts])[order])


def summed(entries: Int64, counts: Int64) -> tuple[Int64, Int64]:
    """Ascending entries, each once, with the sum of its counts."""
    begins = np.empty(len(entries), bool)
    begins[:1] = True
    np.not_equal(entries[1:], entries[:-1], out=begins[1:])
    starts = begins.nonzero()[0]
    return entries[starts], np.add.reduceat(counts, starts) if len(starts) else counts


def _edges(entries: Int64, slots: Int64) -> tuple[Int64, Int64]:
    """Where the entries of each slot begin and end."""
    return np.searchsorted(entries, slots << _BUCKET_BITS), np.searchsorted(entries, (slots + 1) << _BUCKET_BITS)
