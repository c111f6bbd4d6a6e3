"""What is remembered of each series beside the residual detector's state: arrays by series number."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from runtime.columns.types import Float64, Int32, Int64

NEVER: Final = np.iinfo(np.int64).max
"""A time that does not come."""

_FIELDS: Final[dict[str, tuple[str, Any]]] = {
    "last": ("f8", 0.0),
    "last_ms": ("i8", 0),
    "heard_ms": ("i8", 0),
    "due_ms": ("i8", NEVER),
    "gap_ms": ("f8", 0.0),
    "run_ms": ("i8", 0),
    "longest": ("f8", 0.0),
    "strange_ms": ("i8", -1),
    "readings": ("i4", 0),
    "arrivals": ("i4", 0),
    "run": ("i4", 0),
    "changes": ("i4", 0),
    "silent": ("u1", 0),
}
"""Name -> type and what it is before the first reading."""


class Memory:
    """By series:

    last, last_ms        value and event time of the last reading to come
    readings             how many came; 0: nothing is known
    heard_ms             receipt of the last
    arrivals, gap_ms     records that held some; the longest usual time between two of them, slowly fading
    due_ms               when silence is a fault, NEVER when it is none
    silent               code of silence.Silent
    run, run_ms          how many times the last value has come in a row, and the event time of the first
    changes, longest     how often the value changed, and the longest usual run, slowly fading
    strange_ms           stream time at which a detector last spoke, -1: never
    limits, limits_ms    uint8 and int64[series, width]: which side of each detector's limits, and since when
    """

    def __init__(self, width: int = 0) -> None:
        self.last: Float64
        self.gap_ms: Float64
        self.longest: Float64
        self.last_ms: Int64
        self.heard_ms: Int64
        self.due_ms: Int64
        self.run_ms: Int64
        self.strange_ms: Int64
        self.readings: Int32
        self.arrivals: Int32
        self.run: Int32
        self.changes: Int32
        self.silent: Any
        for name, (kind, _) in _FIELDS.items():
            setattr(self, name, np.zeros(0, kind))
        self.limits: Any = np.zeros((0, width), np.uint8)
        self.limits_ms: Int64 = np.zeros((0, width), np.int64)

    @property
    def capacity(self) -> int:
        return len(self.last)

    def grow(self, capacity: int) -> None:
        """Room for series 0 to capacity - 1; never shrinks."""
        more = capacity - self.capacity
        if more <= 0:
            return
        for name, (kind, otherwise) in _FIELDS.items():
            setattr(self, name, np.concatenate([getattr(self, name), np.full(more, otherwise, kind)]))
        for name in ("limits", "limits_ms"):
            array = getattr(self, name)
            setattr(self, name, np.concatenate([array, np.zeros((more, array.shape[1]), array.dtype)]))

    def widen(self, width: int) -> None:
        """Forget all sides of limits: there are other detectors now."""
        self.limits = np.zeros((self.capacity, width), np.uint8)
        self.limits_ms = np.zeros((self.capacity, width), np.int64)

    def arrays(self, size: int) -> dict[str, Any]:
        """What is known of the first `size` series, by name, for a snapshot: views."""
        return {name: getattr(self, name)[:size] for name in (*_FIELDS, "limits", "limits_ms")}

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """Take what `arrays` gave for what is there."""
        for name in (*_FIELDS, "limits", "limits_ms"):
            setattr(self, name, arrays[name])

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in (*_FIELDS, "limits", "limits_ms"))
