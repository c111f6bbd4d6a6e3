"""Small things numpy has, without the price of its wrappers: a record of fifty rows feels every call."""

from typing import Any

import numpy as np

from runtime.columns.spans import lying
from runtime.columns.types import Bool, Int32, Int64


def positions(mask: Bool | Int64) -> Any:
    """Where it is set (or not zero), ascending."""
    return mask.nonzero()[0]


def sizes(column: Any) -> Int64:
    """Bytes of each value of a string or binary column."""
    offsets, _ = lying(column)
    return offsets[1:] - offsets[:-1]


def extent(column: Any) -> int:
    """Bytes of all values of a string or binary column."""
    offsets, _ = lying(column)
    return int(offsets[-1]) - int(offsets[0])


def dense(numbers: Int64) -> tuple[Int64, Int32]:
    """(the distinct numbers, ascending; place of each row's among them). Numbers are not negative."""
    top = int(numbers.max(initial=-1)) + 1
    if top > 8 * len(numbers) + 1024:
        known, places = np.unique(numbers, return_inverse=True)
        return known, places.astype(np.int32)
    there = np.zeros(top, bool)
    there[numbers] = True
    return positions(there), (np.cumsum(there, dtype=np.int32) - np.int32(1)).take(numbers)
