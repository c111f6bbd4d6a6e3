"""Device ids to dense numbers, a whole column at once: open addressing over ids kept as eight 64-bit words.

A Python dict of 250,000 strings costs several cache misses a look-up, one after the other; gathers overlap them. Which
number a device has depends only on the order in which devices were added, not on where it lies in the table.
"""

import operator
import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from runtime.columns.arrays import positions
from runtime.columns.spans import lying
from runtime.columns.types import Int32

Words = npt.NDArray[np.uint64]
NONE: Final = -1
_MAX_ID_BYTES: Final = 64
_MASKS: Final = np.array([(1 << 8 * k) - 1 for k in range(9)], np.uint64)
_MULTIPLIERS: Final = np.array(
    [
        0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93,
        0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3, 0x589965CC75374CC3,
    ],
    np.uint64,
)  # fmt: skip
_MULTIPLIER_INTS: Final[tuple[int, ...]] = tuple(_MULTIPLIERS.tolist())
_ALL_BITS: Final = (1 << 64) - 1
_SPREAD: Final = 16
"""Slots for each device that there is room for."""
_ROUNDS: Final = 16
"""Probes made for all open rows together; what is left after them is looked up row by row."""


class DeviceTable:
    """Numbers 0, 1, 2 … in order of `add`. Ids are `[a-z0-9-]{1,64}`; anything else is never found."""

    def __init__(self, capacity: int = 1024) -> None:
        self.size = 0
        self.words: Words = np.zeros((capacity, 8), np.uint64)
        self._width = 1
        """Words of the longest id."""
        self._spread()

    def find(self, ids: Any) -> Int32:
        """The number of each id of a StringArray without nulls, NONE where it is not there."""
        offsets, body = lying(ids)
        sizes = offsets[1:] - offsets[:-1]
        if not len(sizes):
            return np.zeros(0, np.int32)
        longest = int(sizes.max())
        body = body[offsets[0] : offsets[-1]]
        if longest > _MAX_ID_BYTES or int(sizes.min()) < 1 or not body.all():
            return self._find_some(ids)
        padded = np.zeros(len(body) + 8, np.uint8)
        padded[:-8] = body
        return self._probe(_words(padded, offsets[:-1] - offsets[0], sizes, longest))

    def _find_some(self, ids: Any) -> Int32:
        """`find` where some ids are empty, too long or hold a NUL, which the words cannot represent."""
        out = np.full(len(ids), NONE, np.int32)
        fit = np.array([_padded(i) is not None for i in ids.to_pylist()], bool)
        if fit.any():
            out[fit] = self.find(ids.filter(pa.array(fit)))
        return out

    def find_one(self, device: str) -> int:
        """`find` of one id, cheaper."""
        own = _padded(device)
        return NONE if own is None else int(self._slots[self._seek(own)])

    def add(self, device: str) -> int:
        """The number of a device that is not there yet."""
        own = _padded(device)
        if own is None:
            raise ValueError(f"not a valid device id: {device!r}")
        if self.size == len(self.words):
            self._grow()
        number = self.size
        self._slots[self._seek(own)] = number
        self.words[number] = np.frombuffer(own, np.uint64)
        self._width = max(self._width, (len(device.encode()) + 7) // 8)
        self.size += 1
        return number

    def _seek(self, own: bytes) -> int:
        """Where in the table this id lies, or would."""
        mixed = sum(map(operator.mul, struct.unpack("<8Q", own), _MULTIPLIER_INTS)) & _ALL_BITS
        mixed = (mixed ^ mixed >> 32) * _MULTIPLIER_INTS[0] & _ALL_BITS
        place = mixed >> int(self._shift)
        while (found := int(self._slots[place])) >= 0 and self.words[found].tobytes() != own:
            place = (place + 1) & self._mask
        return int(place)

    def name(self, number: int) -> str:
        found: bytes = self.words[number].tobytes()
        return found.rstrip(b"\0").decode()

    def ids(self, numbers: Any) -> Any:
        """The StringArray of the ids of these numbers."""
        body = self.words[numbers].view(np.uint8)
        there = body != 0
        offsets = np.zeros(len(body) + 1, np.int32)
        np.cumsum(there.sum(axis=1), out=offsets[1:])
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(body[there])]
        return pa.Array.from_buffers(pa.string(), len(body), buffers)

    @property
    def nbytes(self) -> int:
        return int(self.words.nbytes + self._slots.nbytes)

    def restore(self, words: Words) -> None:
        """Take these devices, in this order, for what is there. `words`: uint64[n, up to 8]."""
        capacity = max(1024, 1 << len(words).bit_length())
        self.size = len(words)
        self.words = np.zeros((capacity, 8), np.uint64)
        self.words[: len(words), : words.shape[1]] = words
        self._width = max((k + 1 for k in range(words.shape[1]) if words[:, k].any()), default=1)
        self._spread()

    def stored(self) -> Words:
        """A copy of the words, without columns that no id needs."""
        return self.words[: self.size, : self._width].copy()

    def _probe(self, columns: list[Words]) -> Int32:
        at = self._home(columns)
        out = self._slots.take(at)
        differs = self._differs(out, columns)
        for _ in range(_ROUNDS):  # linear probing, all open rows at once
            rows = positions(differs & (out >= 0))
            if not len(rows):
                out[differs] = NONE
                return out
            at[rows] = (at[rows] + 1) & self._mask
            out[rows] = found = self._slots[at[rows]]
            differs[rows] = self._differs(found, [word[rows] for word in columns])
        for row in positions(differs & (out >= 0)).tolist():
            self._probe_on(row, at, out, columns)
        out[differs & (out < 0)] = NONE
        return out

    def _probe_on(self, row: int, at: npt.NDArray[np.int64], out: Int32, columns: list[Words]) -> None:
        own = np.zeros(8, np.uint64)
        own[: len(columns)] = [word[row] for word in columns]
        place = int(at[row])
        while (found := int(self._slots[place])) >= 0 and (self.words[found] != own).any():
            place = (place + 1) & self._mask
        out[row] = found

    def _differs(self, numbers: Int32, columns: list[Words]) -> npt.NDArray[np.bool_]:
        """Which rows have found another device, or none. A row of `words` is one line of the processor's cache."""
        own = self.words.take(numbers, axis=0, mode="wrap")
        differs = numbers < 0
        for k, word in enumerate(columns):
            differs |= own[:, k] != word
        if len(columns) < own.shape[1]:
            differs |= own[:, len(columns)] != 0
        return differs

    def _home(self, columns: list[Words]) -> npt.NDArray[np.int64]:
        # a sum of products, so that words which an id does not reach (zero) change nothing: how many are given depends
        # on the longest id of the batch
        mixed = columns[0] * _MULTIPLIERS[0]
        for word, multiplier in zip(columns[1:], _MULTIPLIERS[1:], strict=False):
            mixed = mixed + word * multiplier
        mixed ^= mixed >> np.uint64(32)
        home: npt.NDArray[np.int64] = ((mixed * _MULTIPLIERS[0]) >> self._shift).astype(np.int64)
        return home

    def _grow(self) -> None:
        bigger = np.zeros((2 * len(self.words), 8), np.uint64)
        bigger[: self.size] = self.words
        self.words = bigger
        self._spread()

    def _spread(self) -> None:
        """Lay all devices out in a table so large that few look-ups need a second probe."""
        bits = (_SPREAD * len(self.words) - 1).bit_length()
        self._shift, self._mask = np.uint64(64 - bits), (1 << bits) - 1
        self._slots: Int32 = np.full(1 << bits, NONE, np.int32)
        self._place(np.arange(self.size))

    def _place(self, numbers: npt.NDArray[np.int64]) -> None:
        at = self._home([self.words[numbers, k].copy() for k in range(8)])
        while len(numbers):
            free = self._slots[at] < 0
            # of several that want one slot the last write wins; the others try the next
            self._slots[at[free]] = numbers[free]
            left = self._slots[at] != numbers
            numbers, at = numbers[left], (at[left] + 1) & self._mask


def _padded(device: str) -> bytes | None:
    """An id as 64 bytes; None when it is none."""
    found = device.encode()
    return found.ljust(_MAX_ID_BYTES, b"\0") if 0 < len(found) <= _MAX_ID_BYTES and b"\0" not in found else None


def _words(padded: npt.NDArray[np.uint8], starts: Any, sizes: Any, longest: int) -> list[Words]:
    """The ids' bytes as 64-bit words, column by column; `padded` has eight bytes more than the ids."""
    every = np.ndarray(len(padded) - 7, np.uint64, padded, 0, (1,))  # the eight bytes at each position
    last = (longest - 1) // 8 * 8
    if int(sizes.min()) >= last:  # ids of about one length: no word but the last has to be cut
        return [*(every[starts + k] for k in range(0, last, 8)), every[starts + last] & _MASKS[sizes - last]]
    return [
        every[np.minimum(starts + k, len(padded) - 8)] & _MASKS[np.clip(sizes - k, 0, 8)] for k in range(0, longest, 8)
    ]
