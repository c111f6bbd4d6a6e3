"""The residual detector over one series, outside of the stream: public, for commands that try it on files.

judged = judge(time_ms, value, threshold=0.9)
judged.found.alert      # which rows are strange
"""

from dataclasses import dataclass

import numpy as np

from runtime.columns.types import Float64, Int64
from streams.anomaly.core.residual import ALERT, WARM_UP, Found, Residual

__all__ = ["ALERT", "WARM_UP", "Found", "Judged", "judge"]


@dataclass(frozen=True, slots=True)
class Judged:
    """`found` of each row; `score` on the scale of the threshold that was asked for."""

    found: Found
    score: Float64


def judge(time_ms: Int64, value: Float64, threshold: float = ALERT) -> Judged:
    """Judge each row by those before it. `value` is NaN where a row holds none; scores of at least `threshold` (above
    0, below 1) are alerts.

    The detector keeps its own scale, on which an alert is ALERT: thresholds become multiples of it and back.
    """
    scale = threshold / (1.0 - threshold) * (1.0 - ALERT) / ALERT
    n = len(value)
    found = Residual(1).step(np.zeros(n, np.int32), time_ms, value, np.full(n, scale))
    score = found.score if threshold == ALERT else scale * found.score / (1.0 - found.score + scale * found.score)
    return Judged(found, score)
