"""Silence: a series without a reading for longer than usual. Found at ticks, by stream time.

How long a series is usually silent is learnt from the times between the records that held some of it; a gap that raised
an alarm counts for no more than what raised it. A device that falls silent is one incident, of the series that was
heard last; its other series are linked to that one. A series that falls silent while its device goes on sending is
an incident of its own.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.types import Bool, Float64, Int32, Int64
from streams.anomaly.core.memory import NEVER, Memory
from streams.anomaly.core.owners import NONE, Owners
from streams.anomaly.core.plan import SILENCE, Plan

LEAST_ARRIVALS: Final = 20
"""Records that held a series before it is known how often it speaks."""
LEAST_WAIT_MS: Final = 60_000.0
"""What is learnt never asks for less: records are closed after a linger, and ticks come once a second."""
_LEARNT_TIMES: Final = 3.0
_HOUR_MS: Final = 3_600_000.0
_FOREVER_MS: Final = 1e15
FORGET_MS: Final = 14 * 24 * _HOUR_MS
"""What was usual fades by so much of itself: a record whose series was silent for a hundredth takes a hundredth."""


class Silent(IntEnum):
    """`Memory.silent`."""

    NO = 0
    OWN = 1
    """It has an incident."""
    LINKED = 2
    """Its device is silent, and another series has the incident."""
    COVERED = 3
    """Its device's group is silent, and that is the incident."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Of each series in a batch: its number, receipt of its last reading there, and the ms since its last reading
    before (0: never) to its first there; `fading`: what is left, after that, of what was usual."""

    series: Any
    last_ms: Int64
    passed_ms: Float64
    fading: Float64


def arrivals_of(memory: Memory, series: Any, first_ms: Int64, last_ms: Int64) -> Arrivals:
    """`first_ms`, `last_ms`: receipt of each series' first and last reading in the batch."""
    passed = np.where(memory.arrivals[series] > 0, first_ms - memory.heard_ms[series], 0)
    passed_ms = np.maximum(passed, 0).astype(np.float64)
    return Arrivals(series, last_ms, passed_ms, 1.0 - np.minimum(passed_ms, _HOUR_MS) / FORGET_MS)


def observe(plan: Plan, rule: Int32, memory: Memory, heard: Arrivals, harder: Float64 | None) -> None:
    """Take note that these series sent readings. `rule`, `harder`: by series, as in fixed.py."""
    series, arrivals = heard.series, memory.arrivals[heard.series]
    memory.heard_ms[series], memory.arrivals[series] = heard.last_ms, arrivals + 1
    if not plan.has(SILENCE):
        return
    usual = memory.gap_ms[series]
    cap = np.where(arrivals >= LEAST_ARRIVALS, np.maximum(_LEARNT_TIMES * usual, LEAST_WAIT_MS), np.inf)
    memory.gap_ms[series] = np.maximum(usual * heard.fading, np.minimum(heard.passed_ms, cap))
    await_again(plan, rule, memory, series, harder)


def wait_ms(plan: Plan, rule: Int32, memory: Memory, series: Any, harder: Float64 | None) -> Float64:
    """How long each series may be silent; infinite where nothing is known or asked for."""
    factor: Any = 1.0 if harder is None else harder[:, SILENCE]
    known = memory.arrivals[series] >= LEAST_ARRIVALS
    learnt = np.maximum(plan.silence_times[rule] * factor * memory.gap_ms[series], LEAST_WAIT_MS)
    found = np.minimum(np.where(known, learnt, np.inf), plan.silence_ms[rule] * factor)
    return np.where(found < _FOREVER_MS, found, np.inf)


def await_again(plan: Plan, rule: Int32, memory: Memory, series: Any, harder: Float64 | None) -> None:
    """Say when silence of these series will be a fault, counted from their last reading."""
    wait = wait_ms(plan, rule, memory, series, harder)
    due = memory.heard_ms[series] + np.where(np.isfinite(wait), wait, 0.0).astype(np.int64)
    memory.due_ms[series] = np.where(np.isfinite(wait), due, NEVER)


def overdue(memory: Memory, size: int, now_ms: int) -> Int64:
    """Series whose silence is due to be looked at."""
    found: Int64 = positions(memory.due_ms[:size] < now_ms)
    return found


def fallen(memory: Memory, owners: Owners, series: Int64, device: Int64, wait: Float64, now_ms: int) -> Bool:
    """Which of the overdue series open an incident; the others are linked, or wait on because their device was heard
    of just now. `wait`: of each series, ms."""
    device_heard = owners.heard_ms[device]
    whole = now_ms - device_heard >= wait
    alone = ~whole & (device_heard - memory.heard_ms[series] >= wait / 2.0)
    later = ~whole & ~alone
    memory.due_ms[series] = np.where(later, device_heard + wait.astype(np.int64), NEVER)
    opens = alone | _first_of_device(memory, owners, series, device, whole)
    memory.silent[series[opens]] = Silent.OWN
    memory.silent[series[whole & ~opens]] = Silent.LINKED
    return opens


def _first_of_device(memory: Memory, owners: Owners, series: Int64, device: Int64, whole: Bool) -> Bool:
    """Of silent devices without an incident yet, the series that was heard last; it is noted as the one."""
    speaker = owners.silent[device]
    open_already = (speaker != NONE) & (memory.heard_ms[speaker] >= owners.heard_ms[device])
    at = positions(whole & ~open_already)
    order = at[np.lexsort((series[at], -memory.heard_ms[series[at]], device[at]))]
    first = np.ones(len(order), bool)
    first[1:] = device[order[1:]] != device[order[:-1]]
    found = np.zeros(len(series), bool)
    found[order[first]] = True
    owners.silent[device[found]] = series[found]
    return found


def woken(memory: Memory, owners: Owners, size: int, device_of: Int64, devices: Int64) -> Int64:
    """Series that were linked to the silence of these devices, which speak again; their deadlines are set again."""
    if not len(devices):
        return np.zeros(0, np.int64)
    owners.silent[devices] = NONE
    back = np.zeros(len(owners.silent), bool)
    back[devices] = True
    found: Int64 = positions((memory.silent[:size] == Silent.LINKED) & back[device_of])
    memory.silent[found] = Silent.NO
    return found
