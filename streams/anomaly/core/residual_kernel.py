"""What one reading does to the state of its series: the arithmetic of the residual detector, written once.

It is called with numpy arrays (a row a series) and with plain floats (a reading at a time) and gives the same bits for
both: only +, -, *, /, sqrt, comparisons and choices are used, which IEEE 754 rounds in one way only. No exp, no log:
numpy's differ from the C library's in the last bit, and by the length of the array.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

WARM_UP: Final = 100
"""Readings of a series before it is judged."""
PAUSE: Final = 100
"""Readings after an alert that raise no other."""
THRESHOLD: Final = 0.5
"""Scores from here on are alerts."""

_SMOOTH_RESIDUAL: Final = 0.05
_SMOOTH_LEVEL: Final = 0.02
_SMOOTH_CHANGE: Final = 0.4
_FORGET: Final = 0.0003
_DECAY: Final = 0.9997
_SLOT_RATE: Final = 0.03
_MOST: Final = 1e6
_SPREADS: Final = 3.0

SIGNALS: Final = ("residual", "level", "change")
COLUMNS: Final = (
    "readings",
    "last",
    "pause",
    "spread",
    *(f"{what}_{signal}" for what in ("smooth", "mean", "variance", "record") for signal in SIGNALS),
)
"""What is kept of a series beside its hours: one float64 each, 0 before the first reading."""


@dataclass(frozen=True, slots=True)
class Ops:
    """The two operations that numpy and plain Python write differently."""

    where: Callable[[Any, Any, Any], Any]
    sqrt: Callable[[Any], Any]


ARRAYS: Final = Ops(np.where, np.sqrt)
FLOATS: Final = Ops(lambda condition, yes, no: yes if condition else no, math.sqrt)


def step(ops: Ops, state: Any, hour: Any, seen: Any, x: Any, sensitivity: Any) -> tuple[Any, Any, Any, Any]:
    """(state after, hour after, (score, alert, low, high), signal).

    `state` holds COLUMNS; `hour` is the mean of the slot that the reading falls in and `seen` how often that was met.
    """
    where, sqrt = ops.where, ops.sqrt
    n, last, pause, spread, *rest = state
    smooth, mean, variance, record = rest[0:3], rest[3:6], rest[6:9], rest[9:12]
    first, warm = n == 0.0, n >= WARM_UP
    last = where(first, x, last)
    level = where(first, x, smooth[1])
    usual = where(seen == 0.0, level, hour)
    residual = x - usual
    change = x - last
    share = 1.0 / (seen + 1.0)
    hour = usual + (x - usual) * where(share > _SLOT_RATE, share, _SLOT_RATE)
    smooth = [
        smooth[0] + (residual - smooth[0]) * _SMOOTH_RESIDUAL,
        level + (x - level) * _SMOOTH_LEVEL,
        smooth[2] + (abs(change) - smooth[2]) * _SMOOTH_CHANGE,
    ]
    rate = 1.0 / (n + 1.0)
    rate = where(rate > _FORGET, rate, _FORGET)
    strangest, signal = 0.0 * x, 0 * (x == x)
    after_mean, after_variance, after_record = [], [], []
    for k in range(3):
        away = smooth[k] - mean[k]
        sd = sqrt(variance[k])
        known = sd > 1e-12 * abs(mean[k])
        z = abs(away) / where(known, sd, 1.0)
        z = where(known, where(z < _MOST, z, _MOST), 0.0)
        after_mean.append(mean[k] + rate * away)
        after_variance.append((1.0 - rate) * (variance[k] + rate * away * away))
        ratio = where(record[k] > 0.0, z / where(record[k] > 0.0, record[k], 1.0), 0.0)
        more = ratio > strangest
        strangest, signal = where(more, ratio, strangest), where(more, k, signal)
        faded = record[k] * _DECAY
        after_record.append(where(n >= WARM_UP / 2, where(z > faded, z, faded), record[k]))
    reach = _SPREADS * sqrt(spread)
    low, high = where(warm, usual - reach, math.nan), where(warm, usual + reach, math.nan)
    spread = spread + rate * (residual * residual - spread)
    strangest = where(warm, strangest / sensitivity, 0.0)
    score = strangest / (1.0 + strangest)
    alert = (score >= THRESHOLD) & (pause == 0.0)
    score = where(alert | (pause == 0.0), score, THRESHOLD * score)
    pause = where(alert, float(PAUSE), where(pause > 0.0, pause - 1.0, 0.0))
    after = [n + 1.0, x, pause, spread, *smooth, *after_mean, *after_variance, *after_record]
    return after, hour, (score, alert, low, high), signal
