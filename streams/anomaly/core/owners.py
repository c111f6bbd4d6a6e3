"""What is remembered of each device: arrays by device number."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from runtime.columns.types import Int32, Int64

NONE: Final = -1
_FIELDS: Final[dict[str, tuple[str, int]]] = {"publisher": ("i4", NONE), "heard_ms": ("i8", 0), "silent": ("i4", NONE)}


class Owners:
    """By device: `publisher`, the device that published its last readings (a gateway, or itself); `heard_ms`, receipt
    of the last; `silent`, the series that has the incident of its silence."""

    def __init__(self) -> None:
        self.publisher: Int32
        self.heard_ms: Int64
        self.silent: Int32
        for name, (kind, _) in _FIELDS.items():
            setattr(self, name, np.zeros(0, kind))

    def grow(self, capacity: int) -> None:
        more = capacity - len(self.publisher)
        if more > 0:
            for name, (kind, otherwise) in _FIELDS.items():
                setattr(self, name, np.concatenate([getattr(self, name), np.full(more, otherwise, kind)]))

    def arrays(self, size: int) -> dict[str, Any]:
        """What is known of the first `size` devices, by name, for a snapshot: views."""
        return {f"owner_{name}": getattr(self, name)[:size] for name in _FIELDS}

    def restore(self, arrays: Mapping[str, Any]) -> None:
        for name in _FIELDS:
            setattr(self, name, arrays[f"owner_{name}"])

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in _FIELDS)
