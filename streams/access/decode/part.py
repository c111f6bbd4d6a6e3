"""Readings as columns, on their way to the answer: the batch path and the slow path each give one."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from runtime.columns.types import Bool, Float64, Int32, Int64


@dataclass(frozen=True, slots=True)
class Part:
    """Readings in order of (row, index). `time_ms` may be NO_TIME; `text` is a StringArray or None when there is none;
    `child` are codes into `children`, -1 for none, or None when there is none at all."""

    row: Int32
    index: Int32
    metric: Int32
    time_ms: Int64
    value: Float64
    text: Any | None = None
    child: Int32 | None = None
    children: tuple[str, ...] = ()

    def keep(self, mask: Bool) -> "Part":
        return Part(
            self.row[mask],
            self.index[mask],
            self.metric[mask],
            self.time_ms[mask],
            self.value[mask],
            None if self.text is None else self.text.filter(pa.array(mask)),
            None if self.child is None else self.child[mask],
            self.children,
        )

    def at(self, rows: Int32) -> "Part":
        """The same readings, their row i being rows[i]."""
        return replace(self, row=rows[self.row])


def empty() -> Part:
    none = np.zeros(0, np.int32)
    return Part(none, none, none, np.zeros(0, np.int64), np.zeros(0))


def merge(one: Part, other: Part) -> Part:
    """The readings of both, which have no row in common, in order."""
    if not len(one.row) or not len(other.row):
        return one if len(one.row) else other
    row = np.concatenate([one.row, other.row])
    order = np.argsort(row, kind="stable")
    child, children = _children(one, other)
    return Part(
        row[order],
        np.concatenate([one.index, other.index])[order],
        np.concatenate([one.metric, other.metric])[order],
        np.concatenate([one.time_ms, other.time_ms])[order],
        np.concatenate([one.value, other.value])[order],
        _texts(one, other, order),
        None if child is None else child[order],
        children,
    )


def _children(one: Part, other: Part) -> tuple[Int32 | None, tuple[str, ...]]:
    """(codes of the children of both, one after the other; their ids)."""
    if one.child is None and other.child is None:
        return None, ()
    index = dict(zip(one.children, range(len(one.children)), strict=True)) if other.children else {}
    codes = np.array([*(index.setdefault(name, len(index)) for name in other.children), -1], np.int32)
    ours = np.full(len(one.row), -1, np.int32) if one.child is None else one.child
    theirs = np.full(len(other.row), -1, np.int32) if other.child is None else codes[other.child]
    return np.concatenate([ours, theirs]), tuple(index) if other.children else one.children


def _texts(one: Part, other: Part, order: npt.NDArray[np.intp]) -> Any:
    if one.text is None and other.text is None:
        return None
    both = [pa.nulls(len(p.row), pa.string()) if p.text is None else p.text for p in (one, other)]
    return pa.concat_arrays(both).take(pa.array(order))
