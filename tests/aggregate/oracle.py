"""What windows must hold, computed a reading at a time, and partials added up as the contract says."""

import math
from collections import defaultdict
from fractions import Fraction
from typing import Any

from schemas import sketch
from schemas.vocabulary import Verdict
from tests.aggregate.support import MINUTE_MS, Row

Series = tuple[str, str, str, int]
"""Device, channel, metric, begin of the window."""


def is_folded(row: Row) -> bool:
    return row["verdict"] == Verdict.ACCEPTED and row["value"] is not None and not math.isnan(row["value"])


def truth(rows: list[Row], window_ms: int = MINUTE_MS) -> dict[Series, dict[str, Any]]:
    """What the windows hold, computed a reading at a time."""
    windows: dict[Series, list[Row]] = defaultdict(list)
    for row in filter(is_folded, rows):
        windows[row["device"], row["channel"], row["metric"], row["time"] // window_ms * window_ms].append(row)
    return {series: _window(found) for series, found in windows.items()}


def _window(found: list[Row]) -> dict[str, Any]:
    values = [row["value"] for row in found]
    first = min(range(len(found)), key=lambda n: (found[n]["time"], n))
    last = max(range(len(found)), key=lambda n: (found[n]["time"], n))
    total, mean, m2 = exact_moments(values)
    return {
        "count": len(values),
        "sum": float(total),
        "sum_squares": float(m2 + mean * total),
        "mean": float(mean),
        "m2": float(m2),
        "min": min(values),
        "max": max(values),
        "first": values[first],
        "last": values[last],
        "first_time": found[first]["time"],
        "last_time": found[last]["time"],
        "sketch": dict(sketch.merge([[(sketch.bucket_of(value), 1)] for value in values])),
    }


def exact_moments(values: list[float]) -> tuple[Fraction, Fraction, Fraction]:
    """Sum, mean and sum of squared deviations from it of finite values, without rounding."""
    exact = [Fraction(value) for value in values]
    mean = sum(exact, Fraction()) / len(exact)
    return sum(exact, Fraction()), mean, sum(((value - mean) ** 2 for value in exact), Fraction())


def merged(partials: list[Row]) -> dict[str, Any]:
    """Partials of one window added up as the contract says."""
    first = min(partials, key=lambda row: row["first_time"])
    last = max(enumerate(partials), key=lambda item: (item[1]["last_time"], item[0]))[1]
    count, begin = sum(row["count"] for row in partials), partials[0]["mean"]
    mean = begin + sum(row["count"] * (row["mean"] - begin) for row in partials) / count
    mean = mean if math.isfinite(mean) else sum(row["sum"] for row in partials) / count
    between = sum(row["count"] * (row["mean"] - mean) * (row["mean"] - mean) for row in partials)
    return {
        "count": sum(row["count"] for row in partials),
        "sum": sum(row["sum"] for row in partials),
        "sum_squares": sum(row["sum_squares"] for row in partials),
        "mean": mean,
        "m2": sum(row["m2"] for row in partials) + between,
        "min": min(row["min"] for row in partials),
        "max": max(row["max"] for row in partials),
        "first": first["first"],
        "last": last["last"],
        "first_time": first["first_time"],
        "last_time": last["last_time"],
        "sketch": dict(sketch.merge(zip(row["sketch_buckets"], row["sketch_counts"], strict=True) for row in partials)),
    }


def by_window(rows: list[Row], scope: str = "device") -> dict[Series, dict[str, Any]]:
    windows: dict[Series, list[Row]] = defaultdict(list)
    for row in rows:
        if row["scope"] == scope:
            windows[row["device"], row["channel"], row["metric"], row["window_start"]].append(row)
    return {series: merged(found) for series, found in windows.items()}


def same(one: dict[Series, dict[str, Any]], other: dict[Series, dict[str, Any]]) -> None:
    """Everything exactly, sums and moments to rounding."""
    assert one.keys() == other.keys()
    for series, found in one.items():
        for name, value in found.items():
            expected = other[series][name]
            close = name in ("sum", "sum_squares", "mean", "m2") and math.isclose(
                value, expected, rel_tol=1e-9, abs_tol=1e-9
            )
            assert close or value == expected or (math.isnan(value) and math.isnan(expected)), (series, name)
