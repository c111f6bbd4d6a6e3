"""What one reading does to the state of its series: the arithmetic of the residual detector, written once.

It is called with numpy arrays (a column a series) and with plain floats (a reading at a time) and gives the same bits
for both: only +, -, *, /, sqrt, comparisons and choices are used, which IEEE 754 rounds in one way only. No exp, no
log: numpy's differ from the C library's in the last bit, and by the length of the array.
"""

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

SIGNALS: Final = ("spike", "shift", "level", "variability")
"""Four views of a series: the residual against its hour of the day, the same smoothed, the value smoothed, and the size
of the residual smoothed."""
WARM_UP: Final = 100
"""Readings of a series before it is judged."""
ALERT: Final = 0.5
"""Scores from here on are alerts, unless the series is paused."""

_LIMIT: Final = 5.0
"""Strangeness that makes the score ALERT: orders of magnitude of improbability, summed over the signals."""
_PAUSE: Final = 30.0
"""Readings after an alert that raise no other."""
_HABIT: Final = 0.1
"""Each alert raises its series' limit by this part."""
_HABIT_WEARS: Final = 1.0 / 3.0
"""In three memories it wears off."""
_MEMORY_READINGS: Final = 3_300.0
_MEMORY_S: Final = 864_000.0
"""Means and variances reach back so many readings, and at least ten days."""
_HOUR_READINGS: Final = 14.0
_HOUR_MEMORY_S: Final = 36_000.0
"""The mean of an hour of the day reaches back so many readings, and at least ten days' hours."""
_SMOOTH_SHIFT: Final = 0.1
_SMOOTH_LEVEL: Final = 0.03
_SMOOTH_VARIABILITY: Final = 0.15
"""Weights of the newest reading in the smoothed signals."""
_HOUR_SHARE: Final = 0.7
"""How much the spread of the hour weighs against that of the whole day when a residual is scaled."""
_LEAST_SCALE: Final = 1e-6
_FEW_SEEN: Final = 3.0
_FALLS: Final = 2.5
"""A counter may be reset so often within a memory."""
_NEVER: Final = -1e18
_GAP_S: Final = 3_600.0
_INTERVALS: Final = 100.0
"""The interval is a mean of about so many."""
_OUTSIDE: Final = 0.01
_OUTSIDE_DECADES: Final = -math.log10(_OUTSIDE)
"""A signal's edge is what this part of its deviations exceeds; its tail begins there."""
_EDGE_PACE: Final = 16.5
_EDGE_START: Final = 1.5
_EDGE_LEAST: Final = 0.3
_EXCESS_START: Final = 1.0
_EXCESS_LEAST: Final = 0.7
_EXCESS_PACE: Final = 0.003
_EXCESS_PRIOR: Final = 30.0
"""The mean excess over the edge begins as if so many had been seen."""
_SETTLED: Final = 20.0
_CLIP: Final = 5.0
"""Deviations teach mean and variance as if no greater than so many standard deviations."""
_MOST_SDS: Final = 100.0
_ROUNDING: Final = 1e-9
_NOTHING: Final = 1e-200
"""Standard deviations below this part of the value, or below this, are rounding."""
_DECADE: Final = 1.0 / math.log(10.0)

OF_SERIES: Final = (
    *("readings", "time_ms", "interval_s", "last", "rises", "falls", "counter"),
    *("pause", "habit", "spread", "shift", "level", "variability"),
)
OF_SIGNAL: Final = ("mean", "variance", "edge", "excess", "exceeded")
COLUMNS: Final = OF_SERIES + tuple(f"{signal}_{what}" for what in OF_SIGNAL for signal in SIGNALS)
"""What is kept of a series beside its hours: one float64 each."""
FRESH: Final = (0.0,) * (len(OF_SERIES) + 8) + (_EDGE_START,) * 4 + (_EXCESS_START,) * 4 + (_EXCESS_PRIOR,) * 4
"""COLUMNS of a series that was never read."""


class Ops(NamedTuple):
    """What numpy and plain Python write differently. `judge` applies `judged` to all four signals; of `least` and
    `most` no two arguments are zeros of unlike sign."""

    where: Callable[[Any, Any, Any], Any]
    least: Callable[[Any, Any], Any]
    most: Callable[[Any, Any], Any]
    sqrt: Callable[[Any], Any]
    judge: Callable[..., Any]


class Reading(NamedTuple):
    """A reading, or a batch of readings of different series, with what is known of its hour of the day: `mean` and
    `spread` of the residuals there, and how often it was `seen`."""

    time_ms: Any
    value: Any
    threshold: Any
    mean: Any
    spread: Any
    seen: Any


def step(ops: Ops, of_series: Any, of_signals: Any, reading: Reading) -> tuple[Any, Any, Any, Any, Any, Any]:
    """(OF_SERIES after, OF_SIGNAL after, mean of the hour after, spread of the hour after, what is judged, turned).

    Judged are score, alert, low, high, signal. `low` and `high` are NaN and the score is 0 during the warm-up. Where
    `turned` is set, the series is judged in another way from now on, and must warm up again (`reset`).
    """
    where = ops.where
    n, before_ms, interval_s, last, rises, falls, counter, pause, habit, spread, shift, level, variability = of_series
    time_ms, x, threshold, hour_mean, hour_spread, seen = reading
    gap_s = (time_ms - before_ms) / 1000.0
    interval_s = _interval(ops, n, interval_s, gap_s)
    forget = _least(where, interval_s, _MEMORY_S, 1.0 / _MEMORY_READINGS)
    rate = _rate(ops, n, forget)
    steps, rises, falls, turned = _counted(where, n, gap_s, interval_s, x - last, rises, falls, counter, forget)
    counts = counter == 1.0
    origin, unit = where(counts, last, 0.0), where(counts, steps, 1.0)
    y = where(counts & (gap_s == 0.0), level, (x - origin) / unit)
    level = where(n == 0.0, y, level)

    usual = where(seen == 0.0, level, hour_mean)
    residual = y - usual
    size = abs(residual)
    hour_rate = _rate(ops, seen, _least(where, interval_s, _HOUR_MEMORY_S, 1.0 / _HOUR_READINGS))
    spread = spread + (size - spread) * rate
    typical = where(seen > _FEW_SEEN, _HOUR_SHARE * hour_spread + (1.0 - _HOUR_SHARE) * spread, spread)
    known = typical > 0.0
    scale = ops.most(where(known, spread / where(known, typical, 1.0), 1.0), _LEAST_SCALE)
    scaled = residual * scale

    shift = shift + (scaled - shift) * _SMOOTH_SHIFT
    level = level + (y - level) * _SMOOTH_LEVEL
    variability = variability + (abs(scaled) - variability) * _SMOOTH_VARIABILITY
    signals = scaled, shift, level, variability
    least_sd = _ROUNDING * (abs(x) + abs(level)) + _NOTHING
    pace = _edge_pace(ops, n, forget)
    strangeness, signal, below, above, of_signals = ops.judge(ops, signals, of_signals, rate, pace, least_sd)

    warm, free = n >= WARM_UP, pause == 0.0
    limit = _LIMIT * (1.0 + _HABIT * habit) * threshold
    score = where(warm, strangeness / (strangeness + limit), 0.0)
    alert = (score >= ALERT) & free
    score = where(free, score, ALERT * score)
    pause = where(alert, _PAUSE, where(free, 0.0, pause - 1.0))
    habit = habit * (1.0 - forget * _HABIT_WEARS) + where(alert, 1.0, 0.0)
    from_, to = origin + (usual + below / scale) * unit, origin + (usual + above / scale) * unit
    low, high = where(warm, where(unit > 0.0, from_, to), math.nan), where(warm, where(unit > 0.0, to, from_), math.nan)
    after = n + 1.0, time_ms, interval_s, x, rises, falls, counter, pause, habit, spread, *signals[1:]
    judged = score, alert, low, high, signal
    return (
        after,
        of_signals,
        usual + residual * hour_rate,
        hour_spread + (size - hour_spread) * hour_rate,
        judged,
        turned,
    )


def reset(of_series: Any) -> list[float]:
    """OF_SERIES of one series that turned from value to counter, or back permanently."""
    _, time_ms, interval_s, last, _, _, counter, *_ = of_series
    rises = _NEVER if counter == 1.0 else 0.0
    return [0.0, time_ms, interval_s, last, rises, 0.0, 1.0 - counter, *FRESH[7 : len(OF_SERIES)]]


def _counted(
    where: Any, n: Any, gap_s: Any, interval_s: Any, change: Any, rises: Any, falls: Any, counter: Any, forget: Any
) -> tuple[Any, Any, Any, Any]:
    """(steps of time since the last reading, rises, falls, whether it turns out to be a counter, or none after all).

    A series that only rises during its warm-up is a counter, such as an energy meter: judged is by how much it rises a
    step. A late reading is so many steps back. What falls more than once in a while is none.
    """
    moved, timed = gap_s != 0.0, interval_s > 0.0
    steps = where(moved & timed, gap_s / where(timed, interval_s, 1.0), 1.0)
    later, way = moved & (n > 0.0), change * steps
    rises = rises + where(later & (way > 0.0), 1.0, 0.0)
    falls = falls * (1.0 - forget) + where(later & (way < 0.0), 1.0, 0.0)
    counts = counter == 1.0
    found = (n == WARM_UP) & (falls == 0.0) & (rises >= 0.5 * WARM_UP)
    return steps, rises, falls, where(counts, falls > _FALLS, found)


def _rate(ops: Ops, count: Any, least: Any) -> Any:
    """Weight of the newest in a mean: exact at first, then forgetting."""
    return ops.most(1.0 / (count + 1.0), least)


def _least(where: Any, interval_s: Any, memory_s: float, most: float) -> Any:
    """Weight of the newest of a mean that reaches back for a time, and for a number of readings at least."""
    part = interval_s / memory_s
    return where((part > 0.0) & (part < most), part, most)


def _edge_pace(ops: Ops, n: Any, forget: Any) -> Any:
    """By which part of itself an edge moves: fast at first, not at all before mean and variance have settled."""
    settled = n >= _SETTLED
    early = 0.5 / ops.where(settled, n - (_SETTLED - 1.0), 1.0)
    return ops.where(settled, ops.most(early, _EDGE_PACE * forget), 0.0)


def _interval(ops: Ops, n: Any, interval_s: Any, gap_s: Any) -> Any:
    """Typical time between readings. Times that run backwards or repeat say nothing; a gap is an hour at most."""
    gap_s = ops.least(gap_s, _GAP_S)
    share = ops.most(1.0 / ops.most(n, 1.0), 1.0 / _INTERVALS)
    return ops.where((gap_s > 0.0) & (n > 0.0), interval_s + (gap_s - interval_s) * share, interval_s)


def judged(ops: Ops, signal: Any, of_signal: Any, rate: Any, pace: Any, least_sd: Any) -> tuple[Any, Any]:
    """(decades of improbability, OF_SIGNAL after) of a signal.

    Deviations in standard deviations have an exponential tail above the edge, with a mean excess of the series' own;
    what was seen often enough is part of it. Below the edge a deviation is nothing. While `pace`, that of the edge, is
    0, mean and variance are too young to teach it.
    """
    where = ops.where
    mean, variance, edge, excess, exceeded = of_signal
    away, sd, settled = signal - mean, ops.sqrt(variance), pace > 0.0
    varies = sd > least_sd
    sds = ops.least(abs(away) / ops.most(sd, least_sd), _MOST_SDS)
    taught = away * (_CLIP / where(varies & settled & (sds > _CLIP), sds, _CLIP))
    learnt = rate * taught
    mean = mean + learnt
    variance = (1.0 - rate) * (variance + learnt * taught)

    over, beyond = sds > edge, sds - edge
    decades = where(over, _OUTSIDE_DECADES + beyond / excess * _DECADE, 0.0)
    counts = over & settled
    exceeded = exceeded + 1.0 * counts
    share = ops.most(1.0 / exceeded, _EXCESS_PACE)
    excess = ops.most(where(counts, excess + (beyond - excess) * share, excess), _EXCESS_LEAST)
    edge = ops.most(edge + edge * pace * where(over, 1.0 - _OUTSIDE, -_OUTSIDE), _EDGE_LEAST)
    return decades, (mean, variance, edge, excess, exceeded)


def usual_reach(ops: Ops, mean: Any, variance: Any, edge: Any) -> tuple[Any, Any]:
    """From where to where all but _OUTSIDE of a signal lie."""
    reach = edge * ops.sqrt(variance)
    return mean - reach, mean + reach


def _judge_arrays(ops: Ops, signals: Any, of_signals: Any, *given: Any) -> Any:
    """`of_signals`: float64[OF_SIGNAL, SIGNALS, rows]."""
    decades, after = judged(ops, np.array(signals), of_signals, *given)
    strangeness = decades[0] + decades[1] + decades[2] + decades[3]
    return strangeness, _first_greatest(decades), *usual_reach(ops, *of_signals[:3, 0]), after


def _first_greatest(columns: Any) -> Any:
    """argmax over the first of two axes, which is short: numpy's goes column by column."""
    found, greatest = np.zeros(columns.shape[1], np.int32), columns[0]
    for k in range(1, len(columns)):
        found[columns[k] > greatest] = k
        greatest = np.maximum(greatest, columns[k])
    return found


def _judge_floats(ops: Ops, signals: Any, of_signals: Any, *given: Any) -> Any:
    """`of_signals`: a tuple of OF_SIGNAL for each of SIGNALS."""
    found = [judged(ops, signal, of, *given) for signal, of in zip(signals, of_signals, strict=True)]
    decades = [one[0] for one in found]
    strangeness = decades[0] + decades[1] + decades[2] + decades[3]
    reach = usual_reach(ops, *of_signals[0][:3])
    return strangeness, decades.index(max(decades)), *reach, [one[1] for one in found]


ARRAYS: Final = Ops(np.where, np.minimum, np.maximum, np.sqrt, _judge_arrays)
FLOATS: Final = Ops(
    lambda condition, yes, no: yes if condition else no,
    lambda one, other: one if one < other else other,
    lambda one, other: one if one > other else other,
    math.sqrt,
    _judge_floats,
)
