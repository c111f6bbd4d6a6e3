"""The file systems below the data folder: how much room each has, and since when one is full."""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

LOW_BYTES: Final = 64 << 20
LOW_SHARE: Final = 16
"""A file system is full when less than LOW_BYTES is free, or, of a small one, less than a sixteenth."""
LOOK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Space:
    """Room on the file system of `path`, as df counts: what only root may use is not free. `full_since`: Unix time."""

    path: Path
    free: int
    size: int
    full_since: float | None = None

    @property
    def low(self) -> int:
        """Below so many free bytes it is full."""
        return low(self.size)

    def seen(self, before: "Space | None", now: float) -> "Space":
        """With the time since when it is full; it is not full again until twice `low` is free."""
        was = before.full_since if before else None
        if self.free < self.low or (was is not None and self.free < 2 * self.low):
            return replace(self, full_since=now if was is None else was)
        return self

    def described(self) -> dict[str, Any]:
        """As `millrace status --json` prints it."""
        since = (
            None if self.full_since is None else datetime.fromtimestamp(self.full_since, UTC).isoformat("T", "seconds")
        )
        return {"path": str(self.path), "free_bytes": self.free, "size_bytes": self.size, "full_since": since}


def low(size: int) -> int:
    return min(LOW_BYTES, size // LOW_SHARE)


def space(path: Path) -> Space:
    """Raises OSError."""
    found = os.statvfs(path)
    usable = found.f_blocks - found.f_bfree + found.f_bavail
    return Space(path, found.f_bavail * found.f_frsize, usable * found.f_frsize)


def distinct(paths: Iterable[Path]) -> list[Path]:
    """The first path on each file system; what is not there yet is left out."""
    found: dict[int, Path] = {}
    for path in paths:
        if path.exists():
            found.setdefault(path.stat().st_dev, path)
    return list(found.values())


class Disks:
    """Looks at the file systems of `paths` once a second; `spaces` is what was seen last."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._next_s = 0.0
        self.spaces: dict[Path, Space] = {}

    def look(self, now_s: float) -> bool:
        """Whether one has become full, or has room again. `now_s`: of a monotonic clock."""
        if now_s < self._next_s:
            return False
        self._next_s = now_s + LOOK_S
        before = self.full
        self.spaces = {p: space(p).seen(self.spaces.get(p), time.time()) for p in distinct(self._paths)}
        return self.full != before

    @property
    def full(self) -> set[Path]:
        return {path for path, found in self.spaces.items() if found.full_since is not None}
