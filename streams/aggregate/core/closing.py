"""Which open windows are to be written, and as what."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.columns.types import Bool, Int64
from schemas.vocabulary import Part


@dataclass(frozen=True, slots=True)
class Closing:
    """Stream time has moved from `before` to `until`, ms: windows that end between are final. With `late`, those that
    ended before are written too, and with `early` those that have not ended. A window ends when its grace is over."""

    before: int
    until: int
    late: bool = False
    early: bool = False

    def due(self, end: Int64) -> Bool:
        """Whether a window that ends then is to be written."""
        due: Bool = (self.before < end) & (end <= self.until)
        if self.late:
            due |= end <= self.before
        if self.early:
            due |= end > self.until
        return due

    def parts(self, end: Int64) -> Any:
        """As what: uint8."""
        passed = np.where(end <= self.before, Part.LATE, Part.FINAL)
        return np.where(end <= self.until, passed, Part.EARLY).astype(np.uint8)

    @classmethod
    def of_all(cls, time_ms: int) -> "Closing":
        """Whatever is open; what ended before `time_ms` is late."""
        return cls(time_ms, time_ms, late=True, early=True)
