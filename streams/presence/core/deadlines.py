"""Whose time has passed, without looking at everybody: a lower bound for each block of devices."""

from typing import Final

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.types import Int32, Int64

NEVER: Final = (1 << 63) - 1
_BLOCK_BITS: Final = 10
"""A block is 1,024 devices: about as much work to look through as a numpy call costs anyway."""


class Deadlines:
    """`due[device]`: when its time is over, NEVER where it is not waited for; capacity is a multiple of a block.

    `put` is what a record costs; `passed` looks through the blocks in which something may be due, and learns their true
    bounds by that. Bounds are no part of a state: they say where to look, not what is found.
    """

    def __init__(self, capacity: int) -> None:
        self.due: Int64 = np.full(_rounded(capacity), NEVER, np.int64)
        self._bounds: Int64 = np.full(len(self.due) >> _BLOCK_BITS, NEVER, np.int64)

    def put(self, devices: Int32, due: Int64) -> None:
        """Set the deadlines of these devices."""
        self.due[devices] = due
        blocks = devices >> _BLOCK_BITS
        early = due < self._bounds[blocks]
        if early.any():
            np.minimum.at(self._bounds, blocks[early], due[early])

    def passed(self, now: int, most: int) -> Int32:
        """Devices whose deadline is at or before `now`, ascending, at most so many. They stay until set again."""
        found: list[Int32] = []
        for block in positions(self._bounds <= now).tolist():
            start = block << _BLOCK_BITS
            due = self.due[start : start + (1 << _BLOCK_BITS)]
            self._bounds[block] = due.min()
            over = positions(due <= now)[:most]
            if len(over):
                found.append((over + start).astype(np.int32))
                most -= len(over)
                if most <= 0:
                    break
        return np.concatenate(found) if found else np.zeros(0, np.int32)

    def grow(self, capacity: int) -> None:
        if capacity > len(self.due):
            self.restore(self.due, capacity)

    def restore(self, due: Int64, capacity: int) -> None:
        """Take these deadlines for what is there."""
        self.due = np.full(_rounded(max(capacity, len(due))), NEVER, np.int64)
        self.due[: len(due)] = due
        self._bounds = self.due.reshape(-1, 1 << _BLOCK_BITS).min(axis=1)


def _rounded(capacity: int) -> int:
    return -(-capacity >> _BLOCK_BITS) << _BLOCK_BITS
