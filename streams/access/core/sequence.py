"""(boot, seq) of a whole batch. The normal case, the next seq of the latest boot, is arrays; the rest goes to runs.py.

`plan` changes nothing: what it found out is stored by `Sequences.commit`, after everything else went well.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from runtime.columns.arrays import positions
from runtime.columns.grouped import Grouped
from runtime.columns.types import Bool, Int32, Int64
from streams.access.core.runs import MAX_BOOTS, MAX_INTERVALS, NO_SEQ, Fresh, Run, take

NO_BOOT: Final = -1
MAX_KEPT_BYTES: Final = 32 << 20
"""What missing intervals may take of a partition's memory; beyond it a boot keeps one interval instead of 64."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`fresh`: Fresh of each row asked about. The rest is what commit stores."""

    fresh: npt.NDArray[np.uint8]
    missing: int
    devices: Int32
    boots: Int64
    highest: Int64
    runs: dict[int, list[Run]]


class Sequences:
    """`boots`, `highest`: int64[devices, MAX_BOOTS], latest boot first, NO_BOOT and NO_SEQ where there is none.

    `kept`: device * MAX_BOOTS + place -> closed, then first and last of each missing interval, as int64; only where
    something is closed or missing.
    """

    def __init__(self, capacity: int) -> None:
        self.boots: Int64 = np.full((capacity, MAX_BOOTS), NO_BOOT, np.int64)
        self.highest: Int64 = np.full((capacity, MAX_BOOTS), NO_SEQ, np.int64)
        self.gaps: Bool = np.zeros(capacity, bool)
        """Whether something is kept of the device's latest boot."""
        self.kept: dict[int, bytes] = {}
        self.kept_bytes = 0

    def grow(self, capacity: int) -> None:
        more = capacity - len(self.boots)
        self.boots = np.concatenate([self.boots, np.full((more, MAX_BOOTS), NO_BOOT, np.int64)])
        self.highest = np.concatenate([self.highest, np.full((more, MAX_BOOTS), NO_SEQ, np.int64)])
        self.gaps = np.concatenate([self.gaps, np.zeros(more, bool)])

    def plan(self, groups: Grouped, boot: Int64, seq: Int64) -> Plan:
        """What each row's (boot, seq) is to its device. Rows in their order; boot and seq are not negative."""
        fresh = np.zeros(len(boot), np.uint8)
        if not len(boot):
            return Plan(fresh, 0, groups.device, boot, seq, {})
        boot, seq = boot[groups.order], seq[groups.order]
        normal = groups.all_of(self._follows(groups, boot, seq))
        if normal.all():
            last = groups.last()
            return Plan(fresh, 0, groups.device, boot[last], seq[last], {})
        repeats = groups.all_of(self._seen(groups, boot, seq))
        fresh[groups.order[repeats[groups.of]]] = Fresh.REPEAT
        runs: dict[int, list[Run]] = {}
        missing = 0
        for group in positions(~(normal | repeats)).tolist():
            number, start = int(groups.device[group]), int(groups.starts[group])
            runs[number] = self.runs_of(number)
            for at in range(start, start + int(groups.sizes[group])):
                found, given_up = take(runs[number], int(boot[at]), int(seq[at]), self._most())
                fresh[groups.order[at]] = found
                missing += given_up
        last = groups.last()[normal]
        return Plan(fresh, missing, groups.device[normal], boot[last], seq[last], runs)

    def _follows(self, groups: Grouped, boot: Int64, seq: Int64) -> Any:
        """Of each sorted row whether it is the next of the row before it, or of what is stored."""
        before_boot, before_seq = np.empty_like(boot), np.empty_like(seq)
        before_boot[1:], before_seq[1:] = boot[:-1], seq[:-1]
        stored = self.boots[groups.device, 0]
        before_seq[groups.starts] = self.highest[groups.device, 0]
        # an unknown device may begin with any boot
        before_boot[groups.starts] = np.where(stored == NO_BOOT, boot[groups.starts], stored)
        return (boot == before_boot) & (seq == before_seq + 1)

    def _seen(self, groups: Grouped, boot: Int64, seq: Int64) -> Any:
        """Of each sorted row whether it surely is a repeat: of the latest boot, below its highest, nothing missing."""
        boots, highest, gaps = (a[groups.device][groups.of] for a in (self.boots[:, 0], self.highest[:, 0], self.gaps))
        return (boot == boots) & (seq <= highest) & ~gaps

    def _most(self) -> int:
        return MAX_INTERVALS if self.kept_bytes < MAX_KEPT_BYTES else 1

    def commit(self, plan: Plan) -> None:
        self.boots[plan.devices, 0] = plan.boots
        self.highest[plan.devices, 0] = plan.highest
        for device, runs in plan.runs.items():
            self._store(device, runs)

    def runs_of(self, device: int) -> list[Run]:
        """What is known of a device, as values that may be changed freely."""
        found = []
        for place, (boot, highest) in enumerate(
            zip(self.boots[device].tolist(), self.highest[device].tolist(), strict=True)
        ):
            if boot == NO_BOOT:
                break
            kept = np.frombuffer(self.kept.get(device * MAX_BOOTS + place, b""), np.int64).tolist()
            pairs = [list(pair) for pair in zip(kept[1::2], kept[2::2], strict=True)]
            found.append(Run(boot, highest, kept[0] if kept else NO_SEQ, pairs))
        return found

    def _store(self, device: int, runs: list[Run]) -> None:
        for place in range(MAX_BOOTS):
            key = device * MAX_BOOTS + place
            self.kept_bytes -= len(self.kept.pop(key, b""))
            if place >= len(runs):
                continue
            run = runs[place]
            self.boots[device, place], self.highest[device, place] = run.boot, run.highest
            if run.missing or run.closed != NO_SEQ:
                flat = [run.closed, *(end for interval in run.missing for end in interval)]
                self.kept[key] = np.array(flat, np.int64).tobytes()
                self.kept_bytes += len(self.kept[key])
        self.gaps[device] = device * MAX_BOOTS in self.kept

    def keep(self, keys: Int64, sizes: Int64, blob: bytes) -> None:
        """Take over `kept` as a snapshot holds it: keys, bytes of each, and all of them one after the other."""
        at = 0
        for key, size in zip(keys.tolist(), sizes.tolist(), strict=True):
            self.kept[key] = blob[at : at + size]
            self.gaps[key // MAX_BOOTS] |= key % MAX_BOOTS == 0
            at += size
        self.kept_bytes = at
