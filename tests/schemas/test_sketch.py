"""The sketch keeps what its layout says: quantiles within 0.8 %, and sums of sketches."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import sketch

numbers = st.floats(allow_nan=False)
ordinary = (
    st.floats(1e-9, 1e12) | st.floats(-1e12, -1e-9) | st.just(0.0) | st.sampled_from([1e-9, 1e12, -1e-9, 2.0, -1.0])
)
QUANTILES = (0.0, 0.01, 0.5, 0.95, 0.99, 1.0)


def sketched(values: list[float]) -> list[tuple[int, int]]:
    return sketch.merge([[(sketch.bucket_of(value), 1)] for value in values])


def near(got: float, exact: float) -> bool:
    return got == exact or abs(got - exact) <= 1.0000001 * sketch.RELATIVE_ERROR * abs(exact)


@given(st.lists(ordinary, min_size=1), st.floats(0, 1))
def test_quantiles_are_within_eight_thousandths_of_the_exact_ones(values: list[float], q: float) -> None:
    got = sketch.quantile(sketched(values), q)
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    assert near(got, exact)


@given(st.lists(numbers))
def test_all_floats_have_the_bucket_that_the_reference_gives(values: list[float]) -> None:
    column = np.array(values, np.float64)
    assert sketch.buckets(column).tolist() == [sketch.bucket_of(value) for value in values]


@given(numbers, numbers)
def test_buckets_are_ordered_as_values_are(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert sketch.bucket_of(low) <= sketch.bucket_of(high)


@given(numbers.filter(lambda value: abs(value) > 2.3e-308 or value == 0))
def test_a_bucket_stands_for_its_own_middle(value: float) -> None:
    middle = sketch.value_of(sketch.bucket_of(value))
    assert near(middle, value)
    assert sketch.bucket_of(middle) == sketch.bucket_of(value)


def test_what_lies_beyond_is_still_counted() -> None:
    for value in (math.inf, 1.7976931348623157e308, 5e-324, 0.0, -0.0):
        for signed in (value, -value):
            got = sketch.value_of(sketch.bucket_of(signed))
            assert got == signed or near(got, signed) or abs(got - signed) < 1e-307
    assert sketch.bucket_of(math.inf) == sketch.INFINITE
    assert math.isnan(sketch.quantile([], 0.5))
    with pytest.raises(ValueError, match="NaN"):
        sketch.bucket_of(math.nan)


@given(st.lists(st.lists(ordinary), max_size=4))
def test_the_sketch_of_all_is_the_sum_of_the_sketches_of_parts(parts: list[list[float]]) -> None:
    assert sketch.merge(map(sketched, parts)) == sketched([value for part in parts for value in part])
