"""Rate limits of devices, counted on received_at: the token buckets of runtime/rates.py, for columns of messages."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.grouped import Grouped
from runtime.columns.types import Bool, Int32, Int64
from runtime.rates import NEVER_US, RateLimit

_FAR: Final = 1 << 61


@dataclass(frozen=True, slots=True)
class Plan:
    """`passes`: of each row asked about. `full_us` is what commit stores for `devices`."""

    passes: Bool
    devices: Int32
    full_us: Int64


class Buckets:
    """`full_us`: int64[devices], when each bucket is full again."""

    def __init__(self, capacity: int) -> None:
        self.full_us: Int64 = np.full(capacity, NEVER_US, np.int64)

    def grow(self, capacity: int) -> None:
        self.full_us = np.concatenate([self.full_us, np.full(capacity - len(self.full_us), NEVER_US, np.int64)])

    def plan(self, groups: Grouped, now_us: Int64, interval_us: Int64, burst_us: Int64) -> Plan:
        """Whether each row passes. Rows in their order; `interval_us` and `burst_us` are the same for all of a device.

        A message that does not pass costs nothing.
        """
        if not len(now_us):
            return Plan(np.zeros(0, bool), groups.device, now_us)
        now = now_us[groups.order]
        interval, burst = interval_us[groups.order], burst_us[groups.order]
        before, after = self._if_all_pass(groups, now, interval)
        fits = before - now <= burst
        full = after[groups.last()]
        for group in positions(~groups.all_of(fits)).tolist():
            part = slice(int(groups.starts[group]), int(groups.starts[group] + groups.sizes[group]))
            start = int(self.full_us[groups.device[group]])
            fits[part], full[group] = _one_by_one(start, now[part], int(interval[part][0]), int(burst[part][0]))
        passes = np.empty(len(now_us), bool)
        passes[groups.order] = fits
        return Plan(passes, groups.device, full)

    def _if_all_pass(self, groups: Grouped, now: Int64, interval: Int64) -> tuple[Int64, Int64]:
        """full_us before and after each sorted row, were all to pass.

        After row i of a group it is (i + 1) intervals + the greatest of what is stored and of now[j] - j intervals over
        j <= i: a running maximum within each group.
        """
        stored = self.full_us[groups.device][groups.of]
        if len(groups.starts) == len(now):
            return stored, np.maximum(stored, now) + interval
        moved = groups.rank * interval
        greatest = np.maximum(stored, _running_maximum(groups, now - moved))
        after = greatest + moved + interval
        before = np.empty_like(after)
        before[1:] = after[:-1]
        before[groups.starts] = stored[groups.starts]
        return before, after

    def commit(self, plan: Plan) -> None:
        self.full_us[plan.devices] = plan.full_us


def _running_maximum(groups: Grouped, values: Int64) -> Int64:
    low = int(values.min())
    span = int(values.max()) - low + 1
    if span * len(groups.starts) >= _FAR:
        return np.concatenate([np.maximum.accumulate(part) for part in np.split(values, groups.starts[1:])])
    lifted = values + groups.of * span
    found: Int64 = np.maximum.accumulate(lifted) - groups.of * span
    return found


def _one_by_one(full: int, now_us: Int64, interval: int, burst: int) -> tuple[Any, int]:
    limit, passes = RateLimit(interval, burst), []
    for now in now_us.tolist():
        passes.append(limit.wait_us(full, now) == 0)
        if passes[-1]:
            full = limit.after(full, now)
    return passes, full
