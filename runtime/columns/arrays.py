"""Small things numpy has, without the price of its wrappers: a record of fifty rows feels every call."""

from typing import Any

from runtime.columns.spans import lying
from runtime.columns.types import Bool, Int64


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
