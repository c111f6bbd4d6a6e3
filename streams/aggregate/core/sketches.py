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
_SEARCH: Final = 16
"""Entries a slot below which looking at all of them is cheaper than searching for those of each."""
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
            self._entries, self._counts = merged(self._entries, self._counts, *counted(self._whole_log()))
            self._log, self._logged = [], 0

    def renumber(self, new: Int64) -> None:
        """Entries of slot s become those of new[s], or go where that is negative; the order of slots must stay."""
        self._entries, kept = _renumbered(new, self._entries)
        self._counts = self._counts[kept]
        log, _ = _renumbered(new, self._whole_log())
        self._log, self._logged = [log], len(log)

    def of(self, slots: Int64, size: int) -> tuple[Int64, Int64, Int64]:
        """(int64[slots] number of buckets of each, the buckets of slot after slot, their counts). `slots` ascend; there
        are `size` slots in all."""
        asked = np.zeros(size, bool)
        asked[slots] = True
        log = self._whole_log()
        logged = counted(log[asked.take(log >> _BUCKET_BITS)])
        entries, counts = merged(*self._sorted_of(slots, asked), *logged)
        return *split(entries, slots), counts

    def _sorted_of(self, slots: Int64, asked: Bool) -> tuple[Int64, Int64]:
        if len(slots) * _SEARCH > len(self._entries):
            kept: Any = asked.take(self._entries >> _BUCKET_BITS)
        else:
            begins = np.searchsorted(self._entries, slots << _BUCKET_BITS)
            sizes = np.searchsorted(self._entries, (slots + 1) << _BUCKET_BITS) - begins
            kept = np.repeat(begins - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
        return self._entries[kept], self._counts[kept]

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


def _renumbered(new: Int64, entries: Int64) -> tuple[Int64, Bool]:
    """(what is left of the entries, which those are)."""
    slots = new.take(entries >> _BUCKET_BITS)
    kept = slots >= 0
    return (slots[kept] << _BUCKET_BITS) | (entries[kept] & _BUCKET), kept


def entries_of(slots: Int64, buckets: Int64) -> Int64:
    found: Int64 = (slots << _BUCKET_BITS) + (buckets + _ZERO)
    return found


def split(entries: Int64, slots: Int64) -> tuple[Int64, Int64]:
    """(number of entries of each slot, the buckets of all entries). Entries and slots ascend; slots have them all."""
    place = np.zeros(int(slots.max(initial=-1)) + 1, np.int64)
    place[slots] = np.arange(len(slots))
    return np.bincount(place.take(entries >> _BUCKET_BITS), minlength=len(slots)), (entries & _BUCKET) - _ZERO


def counted(entries: Int64) -> tuple[Int64, Int64]:
    """(distinct entries ascending, how often each occurs)."""
    entries = np.sort(entries)
    starts = _starts(entries)
    return entries[starts], np.diff(starts, append=len(entries))


def merged(one: Int64, one_counts: Int64, other: Int64, other_counts: Int64) -> tuple[Int64, Int64]:
    """Two ascending lists of counted entries as one."""
    if not len(one) or not len(other):
        return (other, other_counts) if len(other) else (one, one_counts)
    entries = np.concatenate([one, other])
    order = np.argsort(entries, kind="stable")  # finds the two runs and merges them
    return summed(entries[order], np.concatenate([one_counts, other_counts])[order])


def summed(entries: Int64, counts: Int64) -> tuple[Int64, Int64]:
    """Ascending entries, each once, with the sum of its counts."""
    starts = _starts(entries)
    sums = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=sums[1:])
    return entries[starts], np.diff(sums.take(starts), append=sums[-1])


def _starts(entries: Int64) -> Int64:
    """Where other entries begin."""
    begins = np.empty(len(entries), bool)
    begins[:1] = True
    np.not_equal(entries[1:], entries[:-1], out=begins[1:])
    found: Int64 = begins.nonzero()[0]
    return found
