"""Copies of a state, made while the flow waits: into buffers used before, since fresh memory costs three times more."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from runtime.columns.types import Bytes
from runtime.stage.contract import Frozen

_SMALL_BYTES: Final = 64 << 10
"""Arrays up to this are copied into memory of their own."""
_HEADROOM: Final = 1.25


@dataclass(frozen=True, slots=True)
class Copy:
    """A state that nothing changes any more. `meta` is JSON; `arrays` are contiguous, and valid until the next copy."""

    meta: bytes
    arrays: dict[str, Any]

    @property
    def nbytes(self) -> int:
        return len(self.meta) + sum(int(array.nbytes) for array in self.arrays.values())


class Copies:
    """Makes one copy at a time. Holds buffers for the largest state that it has copied."""

    def __init__(self) -> None:
        self._buffers: dict[str, Bytes] = {}

    def lacking(self, frozen: Frozen) -> dict[str, int]:
        """Bytes to `reserve` for arrays that have no room yet. Then that may take its time, out of the flow's way."""
        sizes = {name: array.nbytes for name, array in frozen.arrays.items() if array.nbytes > _SMALL_BYTES}
        return {name: size for name, size in sizes.items() if size > self._room(name)}

    def _room(self, name: str) -> int:
        return len(self._buffers[name]) if name in self._buffers else 0

    def reserve(self, sizes: dict[str, int]) -> None:
        """Make room, with some to grow. May run in a thread."""
        for name, size in sizes.items():
            self._buffers.pop(name, None)
            self._buffers[name] = np.empty(int(size * _HEADROOM), np.uint8)
            self._buffers[name][...] = 0  # the kernel gives memory when it is touched

    def take(self, frozen: Frozen) -> Copy:
        """Copy a state for which there is room. Ends the life of the copy before. Raises TypeError for types of array
        whose bytes are not their value, and for a meta that JSON cannot say."""
        meta = orjson.dumps(frozen.meta, option=orjson.OPT_SORT_KEYS)
        return Copy(meta, {name: self._copied(name, array) for name, array in frozen.arrays.items()})

    def _copied(self, name: str, array: Any) -> Any:
        if array.dtype.hasobject or array.dtype.names:
            raise TypeError(
                f"array {name!r} of a state is {array.dtype}: only plain types of a fixed size can be stored"
            )
        if array.nbytes <= _SMALL_BYTES:
            return np.array(array, order="C")
        target = self._buffers[name][: array.nbytes].view(array.dtype).reshape(array.shape)
        np.copyto(target, array)
        return target
