"""The residual detector: whatever the batches, the same bytes; whatever the values, an answer."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.anomaly.core.residual import Found, Residual

SERIES = 40
VALUES = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e300, -1e300, 1e-300, 5e-324]),
    st.floats(-1e3, 1e3),
)


def columns(rows: list[tuple[int, int, float]]) -> tuple[Any, Any, Any]:
    series, time_ms, value = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(series, np.int32), np.array(time_ms, np.int64), np.array(value, np.float64)


def stream(seed: int, length: int) -> list[tuple[int, int, float]]:
    """Readings of a few busy and many quiet series, with jumps, late and equal times, and values of no use.

    The busy ones begin as a counter that is reset, as one that turns out to be none, and as a value.
    """
    r = np.random.default_rng(seed)
    busy = r.integers(0, 3, length)
    series = np.where(r.random(length) < 0.5, busy, r.integers(0, SERIES, length))
    value = np.sin(np.arange(length) / 50) * 5 + r.normal(size=length) + series
    value[r.random(length) < 0.01] = 1e300
    value[r.random(length) < 0.01] = np.nan
    value[r.random(length) < 0.02] *= 50
    order = np.arange(length)
    value[series == 0] = (order * 0.1 % 150)[series == 0]
    value[(series == 1) & (order < 800)] = order[(series == 1) & (order < 800)]
    time_ms = order * 60_000 + np.where((series > 1) & (r.random(length) < 0.3), r.integers(-(10**6), 10**6, length), 0)
    return list(zip(series.tolist(), time_ms.tolist(), value.tolist(), strict=True))


def run(rows: list[tuple[int, int, float]], cuts: list[int], restore: bool = False) -> tuple[bytes, bytes]:
    """All that is found and all that is remembered, as bytes, after the rows were cut into batches."""
    detector, parts = Residual(SERIES), []
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    for start, end in pairwise(bounds):
        parts.append(detector.step(*columns(rows[start:end])))
        if restore:
            detector = Residual.restored(detector.arrays())
    outputs = b"".join(
        np.concatenate([getattr(part, name) for part in parts]).tobytes() for name in Found.__dataclass_fields__
    )
    return outputs, b"".join(array.tobytes() for array in detector.arrays().values())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 2500), max_size=12), st.booleans())
def test_any_cut_into_batches_gives_the_same_bytes(seed: int, cuts: list[int], restore: bool) -> None:
    rows = stream(seed, 2500)
    assert run(rows, cuts, restore) == run(rows, [])


def test_a_reading_at_a_time_gives_the_same_bytes() -> None:
    rows = stream(7, 3000)
    assert run(rows, list(range(3000))) == run(rows, [])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-(2**62), 2**62), VALUES), max_size=300))
def test_no_value_and_no_time_breaks_it(rows: list[tuple[int, int, float]]) -> None:
    detector = Residual(3)
    found = detector.step(*columns(rows))
    assert ((found.score >= 0) & (found.score <= 1)).all()
    assert not np.isinf(found.low).any() and not np.isinf(found.high).any()
    assert all(np.isfinite(array).all() for array in detector.arrays().values())
    bad = [i for i, row in enumerate(rows) if not np.isfinite(row[2])]
    assert (found.score[bad] == 0).all() and not found.alert[bad].any()


def test_values_that_are_not_finite_leave_no_trace() -> None:
    rows = stream(3, 1500)
    clean = [row for row in rows if np.isfinite(row[2])]
    assert run(rows, [])[1] == run(clean, [])[1]


@pytest.mark.parametrize("series", [1, 40])
def test_a_jump_is_found_and_explained(series: int) -> None:
    r = np.random.default_rng(5)
    rows = [(s, i * 300_000, 20 + float(r.normal())) for i in range(1000) for s in range(series)]
    detector = Residual(series)
    calm = detector.step(*columns(rows))
    assert calm.score.max() < 0.75
    found = detector.step(*columns([(s, 300_000_000, 60.0) for s in range(series)]))
    paused = found.score < 0.5
    assert (found.alert | paused).all() and (found.score > 0.4).all()
    assert (found.low > 10).all() and (found.high < 30).all()


def test_the_warm_up_says_nothing() -> None:
    rows = [(0, i * 1000, float(i % 7) * (100 if i == 50 else 1)) for i in range(90)]
    found = Residual(1).step(*columns(rows))
    assert not found.score.any() and np.isnan(found.low).all() and np.isnan(found.high).all()


def test_a_higher_threshold_scores_less_and_alerts_less() -> None:
    r = np.random.default_rng(2)
    rows = columns([(0, i * 300_000, float(r.normal())) for i in range(1000)])
    once, often = Residual(1), Residual(1)
    once.step(*rows)
    often.step(*rows, np.full(1000, 1000.0))
    spike = columns([(0, 300_000_000, 90.0)])
    assert not often.step(*rows, np.full(1000, 1000.0)).alert.any()
    assert once.step(*spike).score[0] > often.step(*spike, np.full(1, 1000.0)).score[0] > 0


def meter(n: int, missing: int = 0) -> list[tuple[int, int, float]]:
    """An energy meter, read every five minutes but for `missing` readings at the end: it rises by 0.9 to 1.1 a step."""
    rises = np.random.default_rng(8).uniform(0.9, 1.1, n).cumsum()
    return [(0, i * 300_000, 80_000 + float(rises[i])) for i in range(n) if not n - missing - 1 <= i < n - 1]


@pytest.mark.parametrize("missing", [0, 1, 50])
def test_a_counter_is_judged_by_how_much_it_rises_in_its_time(missing: int) -> None:
    rows = meter(2000, missing)
    found = Residual(1).step(*columns(rows))
    assert found.alert[300:].sum() <= 3
    steps, before, last = missing + 1, rows[-2][2], rows[-1][2]
    assert before + 0.8 * steps < found.low[-1] < last < found.high[-1] < before + 1.2 * steps


def test_a_counter_that_rises_too_fast_or_is_reset_is_strange() -> None:
    rows = meter(2000)
    _, time_ms, last = rows[-1]
    for value in (last + 3.0, last - 0.5, 0.0):
        found = Residual(1).step(*columns([*rows, (0, time_ms + 300_000, value)]))
        assert found.score[-1] > 0.6
        assert last + 0.8 < found.low[-1] < found.high[-1] < last + 1.2


def test_a_series_that_only_began_like_a_counter_is_judged_by_its_values_again() -> None:
    r = np.random.default_rng(9)
    values = [*np.arange(250.0), *r.normal(250, 1, 2000), 400.0]
    found = Residual(1).step(*columns([(0, i * 300_000, float(value)) for i, value in enumerate(values)]))
    assert found.score[-1] > 0.6 and 240 < found.low[-1] < found.high[-1] < 260


def test_nearly_all_readings_lie_in_the_expected_range() -> None:
    r = np.random.default_rng(10)
    values = 20 + 4 * np.sin(np.arange(6000) * 2 * np.pi / 288) + r.normal(0, 0.5, 6000)
    found = Residual(1).step(*columns([(0, i * 300_000, float(value)) for i, value in enumerate(values)]))
    inside = (values >= found.low) & (values <= found.high)
    assert 0.97 < inside[1000:].mean() < 0.999
    assert np.median((found.high - found.low)[1000:]) < 6


def test_a_value_that_never_changed_and_then_does_is_strange() -> None:
    for constant in (0.0, 5.0, 1013.25, 1e9, 1e-9):
        rows = [(0, i * 60_000, constant) for i in range(1000)]
        found = Residual(1).step(*columns([*rows, (0, 60_000_000, constant * 1.01 + 0.01)]))
        assert not found.alert[:-1].any() and found.alert[-1]


def test_growing_keeps_what_was_learnt() -> None:
    rows = stream(1, 500)
    small, large = Residual(SERIES), Residual(SERIES)
    small.step(*columns(rows))
    large.step(*columns(rows))
    large.grow(100)
    assert all((large.arrays()[name][:SERIES] == array).all() for name, array in small.arrays().items())
    fresh = Residual(100).arrays()
    assert all((array[SERIES:] == fresh[name][SERIES:]).all() for name, array in large.arrays().items())


def test_a_snapshot_of_another_form_is_refused() -> None:
    arrays = Residual(3).arrays() | {"mean": np.zeros((3, 7))}
    with pytest.raises(ValueError) as refused:
        Residual.restored(arrays)
    assert "mean" in str(refused.value)
