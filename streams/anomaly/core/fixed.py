"""Detectors that need no statistics: limits, rate of change, stuck value. Whole batches at once.

Each takes the batch as a Sequence, with the rule of each row of it, and returns points; `harder` is what operators'
marks made of each row's threshold (marks.py): None, or float64[rows, SLOTS] of 1 and more.
"""

from typing import Any, Final

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.types import Float64, Int32
from streams.anomaly.core.memory import Memory
from streams.anomaly.core.plan import LIMITS, RATE, STUCK, Plan
from streams.anomaly.core.points import Points, excess_score, points_of
from streams.anomaly.core.sequence import Sequence

Harder = Float64 | None
_WIDER: Final = 0.2
"""Limits move outwards by so much of their span for each time that a threshold is raised by its whole."""
LEAST_RUN: Final = 20
"""Fewer equal readings in a row are nothing to learn about."""
LEAST_CHANGES: Final = 20
"""Changes of value before it is known how long a run usually is."""
_LEARNT_TIMES: Final = 4.0
_MOST_RUN: Final = 1 << 30
HIGH, LOW = 1, 2


def _factor(harder: Harder, slot: int) -> Any:
    return 1.0 if harder is None else harder[:, slot]


def rate(plan: Plan, rule: Int32, rows: Sequence, harder: Harder) -> list[Points]:
    """Readings that changed faster since the one before than `max`. Facts: change a second, what is allowed."""
    if not plan.has(RATE):
        return []
    most = plan.rate[rule] * _factor(harder, RATE)
    passed_s = (rows.time_ms - rows.before_ms) / 1000.0
    judged = rows.known & (passed_s > 0) & np.isfinite(most)
    a_second = np.abs(rows.value - rows.before) / np.where(judged, passed_s, 1.0)
    strange = judged & (a_second > most)
    reach = np.where(judged, most, 0.0) * passed_s
    score = excess_score(a_second / most - 1.0)
    return points_of(strange, rows.order, RATE, score, rows.before - reach, rows.before + reach, a_second, most)


def limits(plan: Plan, rule: Int32, rows: Sequence, memory: Memory, harder: Harder) -> list[Points]:
    """Readings outside of fixed limits, and not back within the clear ones, for long enough. Facts: the side, for how
    many ms."""
    return [point for k in range(plan.width) for point in _limits(plan, k, rule, rows, memory, harder)]


def _limits(plan: Plan, k: int, rule: Int32, rows: Sequence, memory: Memory, harder: Harder) -> list[Points]:
    bound = {key: column[rule, k] for key, column in plan.limits.items()}
    wider = (_factor(harder, LIMITS + k) - 1.0) * _WIDER * bound["span"]
    v, before = rows.value, memory.limits[rows.series, k]
    above, below = v > bound["high"] + wider, v < bound["low"] - wider
    high = rows.carried(above | (v <= bound["high_clear"] + wider), above, before == HIGH)
    low = rows.carried(below | (v >= bound["low_clear"] - wider), below, before == LOW)
    side = np.where(high, HIGH, np.where(low, LOW, 0)).astype(np.uint8)
    began = (side > 0) & (side != rows.shifted(side, before))
    since_ms = rows.carried(began, rows.time_ms, memory.limits_ms[rows.series, k])
    memory.limits[rows.series, k], memory.limits_ms[rows.series, k] = rows.lasts(side), rows.lasts(since_ms)
    lasted_ms = rows.time_ms - since_ms
    excess = np.where(high, v - bound["high"], bound["low"] - v) / bound["span"]
    ends = [np.where(np.isfinite(bound[key]), bound[key], np.nan) for key in ("low", "high")]
    strange = (side > 0) & (lasted_ms >= bound["for_ms"])
    return points_of(strange, rows.order, LIMITS + k, excess_score(excess), *ends, side, lasted_ms)


def stuck(plan: Plan, rule: Int32, rows: Sequence, memory: Memory, fading: Float64, harder: Harder) -> list[Points]:
    """Readings that repeat one value for too long. Facts: readings in a row, for how many ms, longest usual run.

    How long is usual is learnt from runs that ended; one that raised an alarm counts for no more than what raised it,
    so that it takes a few before such runs are usual. `fading`: by series, what is left of the longest.
    """
    if not plan.has(STUCK):
        return []
    run_before, longest = memory.run[rows.series], memory.longest[rows.series]
    known = memory.changes[rows.series] >= LEAST_CHANGES
    other = (rows.value != rows.before) | ~rows.known
    at, begun = rows.since(other)
    run = np.where(begun, 1, rows.spread(run_before) + 1) + (np.arange(len(at)) - at)
    since_ms = np.where(begun, rows.time_ms[at], rows.spread(memory.run_ms[rows.series]))
    same = positions(~other)
    runs = run[same], (rows.time_ms - since_ms)[same], rows.spread(longest)[same], rows.spread(known)[same]
    found = _stuck(plan, rule[same], rows.order[same], runs, None if harder is None else harder[same])
    cap = np.where(known, np.maximum(_LEARNT_TIMES * longest, LEAST_RUN), np.inf)
    ended = other & rows.known
    lengths = np.where(ended, np.minimum(rows.shifted(run, run_before), rows.spread(cap)), 0.0)
    memory.longest[rows.series] = np.maximum(longest * fading, rows.greatest(lengths))
    memory.changes[rows.series] += rows.count(ended)
    memory.run[rows.series], memory.run_ms[rows.series] = np.minimum(rows.lasts(run), _MOST_RUN), rows.lasts(since_ms)
    return found


def _stuck(plan: Plan, rule: Int32, order: Any, runs: tuple[Any, ...], harder: Harder) -> list[Points]:
    """Of rows that repeat the value before."""
    run, lasted_ms, longest, known = runs
    factor = _factor(harder, STUCK)
    learnt = np.where(known, np.maximum(plan.stuck_times[rule] * factor * longest, LEAST_RUN), np.inf)
    over = np.maximum(run / learnt, run / (plan.stuck_readings[rule] * factor))
    over = np.maximum(over, lasted_ms / (plan.stuck_ms[rule] * factor))
    return points_of(over >= 1.0, order, STUCK, excess_score(over - 1.0), None, None, run, lasted_ms, longest)
