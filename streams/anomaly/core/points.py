"""Strange readings, as detectors find them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.types import Bool, Float64, Int64


@dataclass(frozen=True, slots=True)
class Points:
    """Columns. `row`: of the batch; `slot`: of the detector (plan.py); `score`: 0.5 to 1; `low`, `high`: expected
    range, NaN where there is none; `facts`: float64[points, 3], for the explanation, by kind of detector."""

    row: Int64
    slot: Int64
    score: Float64
    low: Float64
    high: Float64
    facts: Float64

    def __len__(self) -> int:
        return len(self.row)


def excess_score(excess: Float64) -> Float64:
    """0.5 at the limit, towards 1 the further beyond. `excess`: in spans of the limit; may be infinite."""
    beyond = np.minimum(np.maximum(excess, 0.0), 1e6)
    return 0.5 + 0.5 * beyond / (1.0 + beyond)


def points_of(strange: Bool, order: Any, slot: int, score: Any, low: Any, high: Any, *facts: Any) -> list[Points]:
    """The points of one detector: nothing or one entry. Columns are as `strange` is, which is in `order` (None: that of
    the batch)."""
    at = positions(strange)
    if not len(at):
        return []
    known = np.full((len(at), 3), np.nan)
    for k, fact in enumerate(facts):
        known[:, k] = fact[at]
    none = np.full(len(at), np.nan)
    return [
        Points(
            at if order is None else order[at],
            np.full(len(at), slot),
            score[at],
            none if low is None else low[at],
            none if high is None else high[at],
            known,
        )
    ]


def together(parts: list[Points]) -> Points:
    """All points in order of (row, slot)."""
    joined = [np.concatenate([getattr(part, name) for part in parts]) for name in Points.__dataclass_fields__]
    order = np.lexsort((joined[1], joined[0]))
    return Points(*(column[order] for column in joined))
