"""Columns of partial aggregates, of windows that are open and of those that are closed, and how they add up.

An open window keeps its first value as `origin` and sums of differences from it, so that the variance keeps its digits
however far the values are from zero: since the origin is one of the values, the sums are not larger than `count` times
what they are about the mean. A closed one has the moments that readers merge: `mean` and `m2`, the sum of squared
deviations from it.
"""

from typing import Any, Final

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.types import Float64, Int64

Columns = dict[str, tuple[str, float]]
"""Column → its type and what an empty partial holds. Times are ms since 1970."""

_ORDERED: Final[Columns] = {
    "min": ("f8", np.inf),
    "max": ("f8", -np.inf),
    "first": ("f8", 0.0),
    "last": ("f8", 0.0),
    "first_time": ("i8", np.iinfo(np.int64).max),
    "last_time": ("i8", np.iinfo(np.int64).min),
}
OPEN: Final[Columns] = {
    "count": ("i8", 0),
    "origin": ("f8", 0.0),
    "differences": ("f8", 0.0),
    "squared_differences": ("f8", 0.0),
    **_ORDERED,
}
MOMENTS: Final = ("sum", "sum_squares", "mean", "m2")
COLUMNS: Final[Columns] = {"count": ("i8", 0), **dict.fromkeys(MOMENTS, ("f8", 0.0)), **_ORDERED}

Rows = dict[str, Any]
"""Column → array, one entry a partial; those of OPEN or COLUMNS and maybe more."""


def empty(size: int, columns: Columns) -> Rows:
    return {name: np.full(size, nothing, kind) for name, (kind, nothing) in columns.items()}


def begin(into: Rows, at: Int64, values: Float64) -> None:
    """Set the origin of open windows at[k], which are new, to the first of their values."""
    into["origin"][at[::-1]] = np.where(np.isfinite(values), values, 0.0)[::-1]  # of several the last write wins


def add(into: Rows, at: Int64, values: Float64, times: Int64) -> None:
    """Add reading k to open window at[k], one after the other: numpy's `at` keeps the order, so that sums are the same
    bits however the readings are cut into batches."""
    with np.errstate(over="ignore", invalid="ignore"):  # ±1e300 may overflow to infinity, and infinities to NaN
        differences = values - into["origin"].take(at)
        np.add.at(into["count"], at, np.ones(len(at), np.int64))
        np.add.at(into["differences"], at, differences)
        differences *= differences
        np.add.at(into["squared_differences"], at, differences)
    same = dict.fromkeys(("min", "max", "first", "last"), values)
    _add_ordered(into, at, same | {"first_time": times, "last_time": times})


def closed(rows: Rows) -> Rows:
    """The columns COLUMNS of windows that have those of OPEN."""
    count, origin, differences = rows["count"], rows["origin"], rows["differences"]
    with np.errstate(over="ignore", invalid="ignore"):
        shift = differences / count
        mean = origin + shift
        m2 = np.maximum(rows["squared_differences"] - differences * shift, 0.0)
        squares = np.where(np.isinf(rows["squared_differences"]), np.inf, m2 + count * mean * mean)
        moments = (count * origin + differences, squares, mean, m2)
    found = dict(zip(MOMENTS, moments, strict=True))
    return {"count": count} | found | {name: rows[name] for name in _ORDERED}


def merge(into: Rows, at: Int64, first: Int64, rows: Rows) -> None:
    """Add closed partial k of `rows` to partial at[k] of `into`, which is empty; `first`: the first row of each.
    Moments merge by the formula of Chan, Golub and LeVeque (1979)."""
    with np.errstate(over="ignore", invalid="ignore"):
        for name in ("count", "sum", "sum_squares", "m2"):
            np.add.at(into[name], at, rows[name])
        origin = rows["mean"][first]
        shift = np.zeros(len(first))
        np.add.at(shift, at, rows["count"] * (rows["mean"] - origin[at]))
        mean = origin + shift / into["count"]
        into["mean"][:] = np.where(np.isfinite(mean), mean, into["sum"] / into["count"])
        between = rows["mean"] - into["mean"][at]
        np.add.at(into["m2"], at, rows["count"] * between * between)
    _add_ordered(into, at, rows)


def _add_ordered(into: Rows, at: Int64, rows: Rows) -> None:
    np.minimum.at(into["min"], at, rows["min"])
    np.maximum.at(into["max"], at, rows["max"])
    _add_first(into, at, rows["first_time"], rows["first"])
    _add_last(into, at, rows["last_time"], rows["last"])


def _add_first(into: Rows, at: Int64, times: Int64, values: Float64) -> None:
    """Of equal times the first to come stays."""
    earlier = positions(times < into["first_time"].take(at))
    if not len(earlier):
        return
    at, times, values = at[earlier], times[earlier], values[earlier]
    np.minimum.at(into["first_time"], at, times)
    won = positions(times == into["first_time"].take(at))[::-1]  # of several for one partial the last write wins
    into["first"][at[won]] = values[won]


def _add_last(into: Rows, at: Int64, times: Int64, values: Float64) -> None:
    """Of equal times the last to come stays."""
    np.maximum.at(into["last_time"], at, times)
    won = positions(times == into["last_time"].take(at))
    into["last"][at[won]] = values[won]
