"""Which partitions are paused so that all of them together hold no more than a bound. Pure.

Memory is freed when a range is written, and a range is written when it is closed, which takes further records of its
partition. So the bound keeps a reserve for one open range: while it is reached, at most one partition reads on, and
only if no closed range is there to be written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Key = tuple[str, int]
TURN_RECORDS: Final = 64


@dataclass(frozen=True, slots=True)
class Use:
    """Bytes that a partition holds; whether ranges of it are closed, and whether its log holds more than was read."""

    bytes: int
    closed: bool
    behind: bool


class Budget:
    """`limit` bytes over all partitions, of which `reserve` is for the range that is to be closed next."""

    def __init__(self, limit: int, reserve: int) -> None:
        self.limit, self.reserve = limit, reserve
        self.full = False
        self._largest = 1

    def take(self, size: int) -> None:
        """A record of so many bytes arrived."""
        self._largest = max(self._largest, size)

    def records(self, held: int) -> int:
        """How many records to read at once: as many as fit, by the largest so far, but one."""
        room = (self.limit if self.full else self._most()) - held
        return max(1, min(TURN_RECORDS, room // self._largest))

    def _most(self) -> int:
        """What may be held without the reserve."""
        return max(0, self.limit - self.reserve - self._largest)

    def paused(self, uses: Mapping[Key, Use]) -> set[Key]:
        """The partitions that must not read now. Once full, until half of it is free."""
        held, most = sum(use.bytes for use in uses.values()), self._most()
        self.full = held > most or (self.full and held > most // 2)
        if not self.full:
            return set()
        reading = None if any(use.closed for use in uses.values()) else _nearest_its_end(uses)
        return uses.keys() - {reading}


def _nearest_its_end(uses: Mapping[Key, Use]) -> Key | None:
    """Of the partitions that have more to read the one that holds most. Where none seems to have any, the one that
    holds most of all: what is known of the end of a paused partition is as old as its last fetch."""
    behind = [key for key, use in uses.items() if use.behind] or [key for key, use in uses.items() if use.bytes]
    return max(behind, key=lambda key: (uses[key].bytes, key), default=None)
