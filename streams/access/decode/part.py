"""Readings as columns, on their way to the answer: the batch path and the slow path each give one."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streams.access.decode.columns import Bool, Float64, Int32, Int64

NO_TIME: Final = -(1 << 63)
"""In `time_ms` until the message's own time is filled in."""


@dataclass(frozen=True, slots=True)
class Part:
    """Readings in order of (row, index). `text` and `child` are StringArrays or None when there are none."""

    row: Int32
    index: Int32
    metric: Int32
    time_ms: Int64
    value: Float64
    text: Any | None = None
    child: Any | None = None

    def keep(self, mask: Bool) -> "Part":
        chosen = pa.array(mask)
        return Part(
            self.row[mask],
            self.index[mask],
            self.metric[mask],
            self.time_ms[mask],
            self.value[mask],
            None if self.text is None else self.text.filter(chosen),
            None if self.child is None else self.child.filter(chosen),
        )


def empty() -> Part:
    none = np.zeros(0, np.int32)
    return Part(none, none, none, np.zeros(0, np.int64), np.zeros(0))


def merge(one: Part, other: Part) -> Part:
    """The readings of both, which have no row in common, in order."""
    if not len(one.row) or not len(other.row):
        return one if len(one.row) else other
    row = np.concatenate([one.row, other.row])
    order = np.argsort(row, kind="stable")
    return Part(
        row[order],
        np.concatenate([one.index, other.index])[order],
        np.concatenate([one.metric, other.metric])[order],
        np.concatenate([one.time_ms, other.time_ms])[order],
        np.concatenate([one.value, other.value])[order],
        _strings(one.text, len(one.row), other.text, len(other.row), order),
        _strings(one.child, len(one.row), other.child, len(other.row), order),
    )


def _strings(one: Any, ones: int, other: Any, others: int, order: npt.NDArray[np.intp]) -> Any:
    if one is None and other is None:
        return None
    both = [
        pa.nulls(ones, pa.string()) if one is None else one,
        pa.nulls(others, pa.string()) if other is None else other,
    ]
    return pa.concat_arrays(both).take(pa.array(order))
