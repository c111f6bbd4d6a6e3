"""Which rows were replayed: exact, eight bytes a row, for as long as the partition's state lives.

Replays are rare and operators start them, so this set is bounded by what people do, not by what devices send.
"""

import re
from typing import Final

import numpy as np

from runtime.columns.types import Int64

_SHAPE = re.compile(r"(\d{1,6})/(\d{1,6})/(\d{1,12})/(\d{1,6})", re.ASCII).fullmatch
ROW_BITS: Final = 20
Origin = tuple[int, int]
"""(epoch, partition) of telemetry.raw."""


def parse(text: str) -> tuple[Origin, int] | None:
    """`epoch/partition/offset/row` as (origin, offset and row in one number); None when it is not that."""
    found = _SHAPE(text)
    if found is None:
        return None
    epoch, partition, offset, row = map(int, found.groups())
    return ((epoch, partition), offset << ROW_BITS | row) if row < 1 << ROW_BITS else None


class Replays:
    """`rows`: origin -> what was replayed of it, ascending."""

    def __init__(self) -> None:
        self.rows: dict[Origin, Int64] = {}

    def plan(self, asked: list[tuple[Origin, int]]) -> list[bool]:
        """Of each, in their order, whether it is replayed for the first time."""
        new: set[tuple[Origin, int]] = set()
        first = []
        for origin, key in asked:
            fresh = (origin, key) not in new and not self._has(origin, key)
            new.add((origin, key))
            first.append(fresh)
        return first

    def _has(self, origin: Origin, key: int) -> bool:
        known = self.rows.get(origin)
        if known is None:
            return False
        at = int(np.searchsorted(known, key))
        return at < len(known) and int(known[at]) == key

    def commit(self, asked: list[tuple[Origin, int]]) -> None:
        by_origin: dict[Origin, list[int]] = {}
        for origin, key in asked:
            by_origin.setdefault(origin, []).append(key)
        for origin, keys in by_origin.items():
            known = self.rows.get(origin, np.zeros(0, np.int64))
            self.rows[origin] = np.union1d(known, np.array(keys, np.int64))

    @property
    def count(self) -> int:
        return sum(map(len, self.rows.values()))
