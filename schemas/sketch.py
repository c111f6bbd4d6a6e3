"""The quantile sketch of `telemetry.aggregates`: how many readings fell into each bucket of a fixed layout.

Every power of two is cut into 64 equal buckets, which are the upper bits of a float64. For v > 0 the bucket is

    b = bits(v) >> 46        that is   64 * (exponent + 1023) + the six upper bits of the mantissa

for v < 0 it is -b of -v, and 0 for zero (and |v| below 3.5e-310). Buckets are ordered as the values are. All float64
have one, infinities a bucket of their own (131008 and -131008); NaN has none. A bucket stands for the middle of its
values, at most 1/128 (0.8 %) of any of them away while |v| is above 2.3e-308.

Sketches of disjoint partials merge by adding counts bucket by bucket. Quantile q of n readings is the value of rank
floor(q * (n - 1)), counted from 0, in ascending order: what numpy calls method="lower".
"""

import math
import struct
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

SHIFT: Final = 46
PER_OCTAVE: Final = 64
RELATIVE_ERROR: Final = 1 / 128
INFINITE: Final = 0x7FF << 6
"""Bucket of infinity."""
EXPONENT: Final = 1023


def buckets(values: Any) -> Any:
    """float64[n] → int64[n], the bucket of each value. NaN must not be among them."""
    found = np.abs(values).view(np.int64)
    found >>= SHIFT
    np.negative(found, out=found, where=values < 0)
    return found


def bucket_of(value: float) -> int:
    """`buckets` of one value. Raises ValueError for NaN."""
    if math.isnan(value):
        raise ValueError("NaN has no bucket")
    (bits,) = struct.unpack("<q", struct.pack("<d", abs(value)))
    bucket: int = bits >> SHIFT
    return -bucket if value < 0 else bucket


def value_of(bucket: int) -> float:
    """What the bucket stands for."""
    size = abs(bucket)
    if size == 0 or size >= INFINITE:
        return math.copysign(math.inf, bucket) if size else 0.0
    octave, place = divmod(size, PER_OCTAVE)
    return math.copysign(math.ldexp(1 + (place + 0.5) / PER_OCTAVE, octave - EXPONENT), bucket)


def merge(sketches: Iterable[Iterable[tuple[int, int]]]) -> list[tuple[int, int]]:
    """The sketch of all readings of several: (bucket, count), buckets ascending."""
    found: dict[int, int] = {}
    for sketch in sketches:
        for bucket, count in sketch:
            found[bucket] = found.get(bucket, 0) + count
    return sorted(found.items())


def quantile(sketch: Iterable[tuple[int, int]], q: float) -> float:
    """Quantile of (bucket, count), buckets ascending; NaN when there is nothing in it."""
    counted = list(sketch)
    rank, below = math.floor(q * (sum(count for _, count in counted) - 1)), 0
    for bucket, count in counted:
        below += count
        if below > rank:
            return value_of(bucket)
    return math.nan
