"""Mean and variance of windows keep their digits whatever the values are, also after partials are merged."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.columns.pack import pack, unpack
from runtime.stage.contract import Frozen
from schemas import aggregates
from schemas.control import Device
from streams.aggregate.core import partials
from streams.aggregate.core.stage import AggregateStage
from streams.aggregate.core.state import State
from streams.aggregate.windowing import Windowing
from tests.aggregate.oracle import exact_moments, merged
from tests.aggregate.support import MINUTE_MS, NOW_MS, Row, data, fresh, reading, registered, rows_of, settings, tick

END_MS = NOW_MS + MINUTE_MS + 5_000
ULP = 2.0**-52


def window_of(values: list[float], cut: int = 7) -> Row:
    """What the stage writes of these values in one window, given in batches."""
    state = fresh()
    state.apply(settings(0, Windowing(groups=())))
    for at in range(0, len(values), cut):
        state.apply(data(1, [reading("a", value) for value in values[at : at + cut]]))
    (row,) = rows_of(state.apply(tick(2, END_MS)))
    return row


@pytest.mark.parametrize(
    ("values", "deviation"),
    [
        ([1000000000.1] * 60, 0.0),
        ([1e9, 1e9 + 10], 5.0),
        ([1e12, 1e12 + 1, 1e12 + 2], math.sqrt(2 / 3)),
        ([1e15 + n % 2 for n in range(60)], 0.5),
        ([-1e12 - 0.5, -1e12 + 0.5], 0.5),
        ([7.0], 0.0),
    ],
)
def test_the_deviation_of_values_that_are_large_against_their_spread_has_all_its_digits(
    values: list[float], deviation: float
) -> None:
    row = window_of(values)
    assert math.isclose(math.sqrt(row["m2"] / row["count"]), deviation, rel_tol=1e-12, abs_tol=0.0)
    assert math.isclose(row["mean"], float(exact_moments(values)[1]), rel_tol=4 * ULP)


spread_out = st.builds(
    lambda begin, spread, units: [begin + spread * unit for unit in units],
    st.one_of(st.just(0.0), st.floats(-1e15, 1e15, allow_subnormal=False)),
    st.sampled_from((1e-3, 1.0, 1e6)),
    st.lists(st.integers(-(1 << 20), 1 << 20).map(lambda n: n / (1 << 20)), min_size=1, max_size=80),
)
"""Values about a level that may be far from zero, as float64 can tell them apart."""


@given(spread_out, st.integers(1, 20))
def test_moments_of_a_window_are_those_of_exact_arithmetic(values: list[float], cut: int) -> None:
    close_to_exact([window_of(values, cut)], values, merges=False)


@given(st.lists(spread_out, min_size=1, max_size=6))
def test_moments_of_merged_partials_are_those_of_exact_arithmetic(parts: list[list[float]]) -> None:
    close_to_exact([window_of(part) for part in parts], [value for part in parts for value in part])


def close_to_exact(rows: list[Row], values: list[float], merges: bool = True) -> None:
    """Within the rounding of float64. That of means, which a merge compares, is relative to the largest value."""
    total, mean, m2 = exact_moments(values)
    found, count, largest = merged(rows), len(values), max(map(abs, values))
    assert (found["count"], found["min"], found["max"]) == (count, min(values), max(values))
    assert abs(Fraction(found["mean"]) - mean) <= 16 * ULP * largest
    assert abs(Fraction(found["sum"]) - total) <= 4 * count * ULP * largest
    got, expected = math.sqrt(found["m2"] / count), math.sqrt(m2 / count)
    assert math.isclose(got, expected, rel_tol=16 * count * ULP, abs_tol=16 * ULP * largest if merges else 0.0)


@given(st.lists(spread_out, min_size=1, max_size=6))
def test_moments_of_a_group_are_those_of_its_devices_readings(devices: list[list[float]]) -> None:
    state = fresh()
    state.apply(settings(0, Windowing(groups=("role",))))
    for number, values in enumerate(devices):
        state.apply(registered(number + 1, Device(f"d-{number}", "meter")))
        state.apply(data(50 + number, [reading(f"d-{number}", value) for value in values]))
    groups = [row for row in rows_of(state.apply(tick(99, END_MS))) if row["scope"] == "role"]
    assert len(groups) == 1
    close_to_exact(groups, [value for values in devices for value in values])


@given(spread_out)
def test_sums_about_zero_give_a_deviation_of_four_digits_or_none(values: list[float]) -> None:
    array = np.array(values)
    sums: dict[str, Any] = {"count": len(values), "sum": array.sum(), "sum_squares": (array * array).sum()}
    found = aggregates.moments(
        **{k: np.array([v]) for k, v in (sums | {"min": min(values), "max": max(values)}).items()}
    )
    m2 = float(found["m2"][0])
    if not math.isnan(m2):
        assert math.isclose(m2, float(exact_moments(values)[2]), rel_tol=1e-4)


def test_a_snapshot_of_sums_about_zero_is_taken_over_and_unknown_deviations_are_not_made_up() -> None:
    """Logic version 1: its windows are written with what it knows, and what comes after is another partial."""
    state = fresh()
    state.apply(settings(0, Windowing(groups=())))
    state.apply(tick(1, NOW_MS))
    sent = {"small": [1.0, 3.0], "large": [1e9, 1e9 + 10], "constant": [1e9 + 0.1] * 3}
    state.apply(data(2, [reading(device, value) for device, values in sent.items() for value in values]))
    frozen = _as_version_1(state)
    again = AggregateStage().restore(0, frozen, 1)
    found = rows_of(again.apply(data(3, [reading("small", 5.0)]))) + rows_of(again.apply(tick(4, END_MS)))
    rows = [(row["device"], row["count"], row["sum"], row["sum_squares"], row["m2"]) for row in found]
    squares = {device: sum(value * value for value in values) for device, values in sent.items()}
    assert rows[0] == ("small", 2, 4.0, squares["small"], 2.0)
    assert rows[1][:4] == ("large", 2, 2e9 + 10, squares["large"]) and math.isnan(rows[1][4])
    assert rows[2][:3] == ("constant", 3, sum(sent["constant"])) and rows[2][4] == 0.0
    assert math.isclose(rows[2][3], squares["constant"])
    assert rows[3:] == [("small", 1, 5.0, 25.0, 0.0)]
    assert again.open == 0


def _as_version_1(state: State) -> Frozen:
    """The snapshot that logic version 1 would have stored: sums about zero instead of moments."""
    frozen = state.freeze()
    frozen = Frozen(*unpack(pack(frozen.meta, frozen.arrays)))
    arrays = dict(frozen.arrays)
    rows = {name: arrays[f"window_{name}"] for name in partials.OPEN}
    count, origin, differences = rows["count"], rows["origin"], rows["differences"]
    squares = rows["squared_differences"] + 2 * origin * differences + count * origin * origin
    arrays |= {"window_sum": count * origin + differences, "window_sum_squares": squares}
    for name in ("window_origin", "window_differences", "window_squared_differences", "pending_mean", "pending_m2"):
        del arrays[name]
    return Frozen(frozen.meta, arrays)
