"""ClickHouse's expressions for what a window says of its readings: quantiles of the sketch, and moments.

`sumMap(sketch_buckets, sketch_counts)` merges sketches (schemas/sketch.py), and `quantile` reads the result; min and
max of the window are exact and may clamp what it says:

    SELECT device, metric, window_start, {quantile("sketch", 0.95)} AS p95
    FROM (SELECT device, metric, window_start, sumMap(sketch_buckets, sketch_counts) AS sketch
          FROM aggregates_1m GROUP BY device, metric, window_start)
"""

from typing import Final

from schemas.aggregates import LEAST_SHARE
from schemas.sketch import EXPONENT, PER_OCTAVE

MEAN: Final = (
    "(ifNotFinite(means[1] + arraySum((n, m) -> n * (m - means[1]), counts, means) / arraySum(counts), sum / count))"
)
"""The mean of partials, from the arrays `counts` and `means` of them; `sum` and `count` are those of all."""
M2: Final = "(m2_within + arraySum((n, m) -> n * (m - mean) * (m - mean), counts, means))"
"""Their sum of squared deviations from `mean`, that of all; `m2_within` is the sum of those of the partials."""
_M2_OF_SUMS: Final = "sum_squares - sum * sum / count"
M2_OF_SUMS: Final = (
    f"if(min = max AND isFinite(min), 0, if({_M2_OF_SUMS} >= {LEAST_SHARE} * count * sum_squares, {_M2_OF_SUMS}, nan))"
)
"""What schemas.aggregates.moments does, for rows that were stored without moments."""


def quantile(sketch: str, q: float | str) -> str:
    """ClickHouse's expression for quantile `q` of what `sumMap(sketch_buckets, sketch_counts)` gave; `sketch` names
    that. NaN when it is empty, as where sketches are off."""
    rank = f"floor({q} * (arraySum({sketch}.2) - 1))"
    bucket = f"{sketch}.1[arrayFirstIndex(below -> below > {rank}, arrayCumSum({sketch}.2))]"
    value = (
        f"sign(b) * pow(2., intDiv(abs(b), {PER_OCTAVE}) - {EXPONENT})"
        f" * (1 + (abs(b) % {PER_OCTAVE} + 0.5) / {PER_OCTAVE})"
    )
    return f"if(empty({sketch}.1), nan, arrayMap(b -> {value}, [{bucket}])[1])"
