"""64-bit keys to dense numbers, a whole column at once: open addressing, with all rows probing together.

Which number a key has depends only on the order in which keys came, not on where they lie in the table.
"""

from typing import Any, Final

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.growing import Growing
from runtime.columns.types import Bool, Int32, Int64

NONE: Final = -1
GONE: Final = -(1 << 63)
"""The key of a number that was removed. No other key may have this value."""
_SPREAD: Final = 8
"""Places in the table for each key that there is room for."""
_ROOM: Final = 1024
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)


class KeyTable:
    """Numbers 0, 1, 2 … in the order in which keys came; `keys`: int64[size], key of each number."""

    def __init__(self) -> None:
        self._keys = Growing(np.int64)
        self._removed = False
        self._lay_out(_ROOM)

    def __len__(self) -> int:
        """Numbers given, those removed too."""
        return len(self._keys)

    @property
    def keys(self) -> Int64:
        """A view; only `remove` changes what it shows."""
        found: Int64 = self._keys.all
        return found

    @property
    def nbytes(self) -> int:
        return int(self._keys.nbytes + self._places.nbytes)

    def find(self, keys: Int64) -> Int32:
        """The number of each key, NONE where it is not there."""
        at = self._home(keys)
        found: Int32 = self._places.take(at)
        known = self.keys
        if not len(known):
            return found
        left = positions((known.take(found, mode="wrap") != keys) & (found >= 0))
        while len(left):  # linear probing, all open rows at once
            at[left] = (at[left] + 1) & self._mask
            found[left] = now = self._places[at[left]]
            left = left[(now >= 0) & (known.take(now, mode="wrap") != keys[left])]
        return found

    def number(self, keys: Int64) -> Int32:
        """The number of each key; new ones are given in order of the rows."""
        found = self.find(keys)
        new = positions(found < 0)
        if len(new):
            found[new] = self._number_new(keys[new])
        return found

    def add(self, keys: Int64) -> None:
        """Number these keys, which are not there and differ from each other."""
        begin = len(self._keys)
        self._keys.append(keys)
        if not self._make_room(len(self._keys)):
            self._place(np.arange(begin, len(self._keys)))

    def remove(self, numbers: Int64 | Int32) -> None:
        """Forget the keys of these numbers. The numbers are not given again."""
        self._keys.all[numbers] = GONE
        self._removed = self._removed or len(numbers) > 0

    def restore(self, keys: Int64) -> None:
        """Take these keys, in this order, for what is there; GONE for a number that was removed."""
        self._keys = Growing(np.int64)
        self._keys.append(keys)
        self._removed = bool((keys == GONE).any())
        self._lay_out(max(_ROOM, 1 << len(keys).bit_length()))

    def _number_new(self, keys: Int64) -> Int32:
        """Numbers for keys that are not there, each for all its rows."""
        self._make_room(len(self._keys) + len(keys))
        row = np.arange(len(keys), dtype=np.int32)
        first, at, left = row.copy(), self._home(keys), row
        while len(left):
            here = at[left]
            free = positions(self._free(self._places[here]))
            # a row claims a free place by writing -2 - row; of several the last write wins, which is the first row.
            # Rows of one key go the same way, so that the first of them claims for all
            claims = free[::-1]
            self._places[here[claims]] = -2 - left[claims]
            owner = -2 - self._places[here]
            mine = (owner >= 0) & (keys.take(owner, mode="clip") == keys[left])
            first[left[mine]] = owner[mine]
            left = left[~mine]
            at[left] = (at[left] + 1) & self._mask
        leads = first == row
        numbers: Int32 = np.cumsum(leads, dtype=np.int32) + np.int32(len(self._keys) - 1)
        self._places[at[leads]] = numbers[leads]
        self._keys.append(keys[leads])
        return numbers[first]

    def _free(self, there: Int32) -> Bool:
        """Which places are to be had, by what lies there: nothing, or a number that was removed."""
        free: Bool = there == NONE
        if self._removed:
            free |= (there >= 0) & (self.keys.take(there, mode="clip") == GONE)
        return free

    def _home(self, keys: Int64) -> Int64:
        mixed = keys.view(np.uint64)
        mixed = mixed ^ mixed >> np.uint64(32)
        mixed *= _MULTIPLIER
        mixed >>= self._shift
        return mixed.view(np.int64)

    def _make_room(self, size: int) -> bool:
        """Whether all keys had to be rehashed."""
        if size <= self._room:
            return False
        self._lay_out(1 << size.bit_length())
        return True

    def _lay_out(self, room: int) -> None:
        """Lay all keys out in a table so large that few look-ups need a second probe."""
        self._room = room
        bits = (_SPREAD * room - 1).bit_length()
        self._shift, self._mask = np.uint64(64 - bits), (1 << bits) - 1
        self._places: Int32 = np.full(1 << bits, NONE, np.int32)
        self._place(positions(self.keys != GONE))

    def _place(self, numbers: Any) -> None:
        at = self._home(self.keys[numbers])
        while len(numbers):
            free = self._places[at] < 0
            # of several that want one place the last write wins; the others try the next
            self._places[at[free]] = numbers[free]
            left = self._places[at] != numbers
            numbers, at = numbers[left], (at[left] + 1) & self._mask
