"""The seqs of one device, exactly: of each remembered boot the highest, and the intervals missing below it.

seq starts at 0 with each boot, so a first message with seq 5 leaves 0 to 4 missing: they may come late.
"""

import bisect
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

MAX_BOOTS: Final = 4
MAX_INTERVALS: Final = 64
NO_SEQ: Final = -1


class Fresh(IntEnum):
    """What a (boot, seq) is to its device."""

    NEW = 0
    REPEAT = 1
    SEQ_CLOSED = 2
    OLD_BOOT = 3


@dataclass(slots=True)
class Run:
    """One boot. `missing` are intervals [first, last], ascending and apart; up to `closed` none is waited for."""

    boot: int
    highest: int = NO_SEQ
    closed: int = NO_SEQ
    missing: list[list[int]] = field(default_factory=list)

    def take(self, seq: int, most: int = MAX_INTERVALS) -> tuple[Fresh, int]:
        """(what seq is, how many seqs were given up for it). Marks it."""
        if seq > self.highest:
            if seq > self.highest + 1:
                self.missing.append([self.highest + 1, seq - 1])
            self.highest = seq
        elif seq <= self.closed:
            return Fresh.SEQ_CLOSED, 0
        elif not self._found(seq):
            return Fresh.REPEAT, 0
        return Fresh.NEW, self._close(most)

    def _found(self, seq: int) -> bool:
        """Take seq out of its missing interval; False when it is in none."""
        at = bisect.bisect_right(self.missing, seq, key=lambda interval: interval[0]) - 1
        if at < 0 or self.missing[at][1] < seq:
            return False
        first, last = self.missing[at]
        self.missing[at : at + 1] = [part for part in ([first, seq - 1], [seq + 1, last]) if part[0] <= part[1]]
        return True

    def _close(self, most: int) -> int:
        given_up = 0
        while len(self.missing) > most:
            first, last = self.missing.pop(0)
            self.closed = last
            given_up += last - first + 1
        return given_up

    @property
    def waited_for(self) -> int:
        """How many seqs are missing still."""
        return sum(last - first + 1 for first, last in self.missing)


def take(runs: list[Run], boot: int, seq: int, most: int = MAX_INTERVALS) -> tuple[Fresh, int]:
    """(what (boot, seq) is, how many seqs were given up). `runs`: latest boot first; is kept so, and to MAX_BOOTS."""
    for run in runs:
        if run.boot == boot:
            return run.take(seq, most)
    if len(runs) == MAX_BOOTS and boot < runs[-1].boot:
        return Fresh.OLD_BOOT, 0
    run = Run(boot)
    bisect.insort(runs, run, key=lambda r: -r.boot)
    given_up = sum(gone.waited_for for gone in runs[MAX_BOOTS:])
    del runs[MAX_BOOTS:]
    fresh, more = run.take(seq, most)
    return fresh, given_up + more
