"""Columns of partial aggregates, and how they add up."""

from typing import Any, Final

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.types import Float64, Int64

COLUMNS: Final[dict[str, tuple[str, float]]] = {
    "count": ("i8", 0),
    "sum": ("f8", 0.0),
    "sum_squares": ("f8", 0.0),
    "min": ("f8", np.inf),
    "max": ("f8", -np.inf),
    "first": ("f8", 0.0),
    "last": ("f8", 0.0),
    "first_time": ("i8", np.iinfo(np.int64).max),
    "last_time": ("i8", np.iinfo(np.int64).min),
}
"""Type and what stands in an empty partial. Times are ms since 1970."""

Rows = dict[str, Any]
"""Column → array, one entry a partial; those of COLUMNS and maybe more."""


def empty(size: int) -> Rows:
    return {name: np.full(size, nothing, kind) for name, (kind, nothing) in COLUMNS.items()}


def of_readings(values: Float64, times: Int64) -> Rows:
    """Each reading as a partial of its own."""
    with np.errstate(over="ignore"):
        squares = values * values
    return {
        "count": np.ones(len(values), np.int64),
        "sum": values,
        "sum_squares": squares,
        "min": values,
        "max": values,
        "first": values,
        "last": values,
        "first_time": times,
        "last_time": times,
    }


def fold(into: Rows, at: Int64, rows: Rows) -> None:
    """Add partial k of `rows` to partial at[k] of `into`, one after the other: numpy's `at` keeps the order, so that
    sums are the same bits however the rows are cut into batches."""
    with np.errstate(over="ignore", invalid="ignore"):  # ±1e300 may overflow to infinity, and infinities to NaN
        for name in ("count", "sum", "sum_squares"):
            np.add.at(into[name], at, rows[name])
        np.minimum.at(into["min"], at, rows["min"])
        np.maximum.at(into["max"], at, rows["max"])
    _fold_first(into, at, rows["first_time"], rows["first"])
    _fold_last(into, at, rows["last_time"], rows["last"])


def _fold_first(into: Rows, at: Int64, times: Int64, values: Float64) -> None:
    """Of equal times the first to come stays."""
    earlier = positions(times < into["first_time"].take(at))
    if not len(earlier):
        return
    at, times, values = at[earlier], times[earlier], values[earlier]
    np.minimum.at(into["first_time"], at, times)
    won = positions(times == into["first_time"].take(at))[::-1]  # of several for one partial the last write wins
    into["first"][at[won]] = values[won]


def _fold_last(into: Rows, at: Int64, times: Int64, values: Float64) -> None:
    """Of equal times the last to come stays."""
    np.maximum.at(into["last_time"], at, times)
    won = positions(times == into["last_time"].take(at))
    into["last"][at[won]] = values[won]
