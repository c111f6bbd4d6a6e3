"""Copies of a state, made while the flow waits: into buffers used before, since fresh memory costs three times more.

A buffer has one owner at a time: `Copies` (free), or the one `Copy` that it was given to, until that is given back. A
copy that is not (its snapshot was cancelled) keeps its buffers: no later copy can write into what is still being read.
New buffers are made by `allocate`, which may run in a thread: nobody else knows them before it has returned.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """A state that nothing changes any more. `meta` is JSON; `arrays` are contiguous, and valid until it is given back.
    `buffers`: the memory of the large ones, by array."""

    meta: bytes
    arrays: dict[str, Any]
    buffers: dict[str, Bytes] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return len(self.meta) + sum(int(array.nbytes) for array in self.arrays.values())


def allocate(sizes: Mapping[str, int]) -> dict[str, Bytes]:
    """New buffers of at least these sizes, with some room to grow. May run in a thread."""
    buffers = {name: np.empty(int(size * _HEADROOM), np.uint8) for name, size in sizes.items()}
    for buffer in buffers.values():
        buffer[...] = 0  # the kernel gives memory when it is touched
    return buffers


class Copies:
    """Makes copies. Holds buffers for the largest state that it has copied. Not thread-safe."""

    def __init__(self) -> None:
        self._free: dict[str, Bytes] = {}

    def lacking(self, frozen: Frozen) -> dict[str, int]:
        """Bytes to `allocate` for arrays that have no room yet. Buffers that have become too small are dropped."""
        sizes = {name: array.nbytes for name, array in frozen.arrays.items() if array.nbytes > _SMALL_BYTES}
        lacking = {name: size for name, size in sizes.items() if size > len(self._free.get(name, b""))}
        for name in lacking:
            self._free.pop(name, None)
        return lacking

    def add(self, buffers: Mapping[str, Bytes]) -> None:
        """Take allocated buffers as free ones."""
        self._free.update(buffers)

    def take(self, frozen: Frozen) -> Copy:
        """Copy a state for which there is room. Raises TypeError for types of array whose bytes are not their value,
        and for a meta that JSON cannot say."""
        meta = orjson.dumps(frozen.meta, option=orjson.OPT_SORT_KEYS)
        for name, array in frozen.arrays.items():
            _check(name, array)
        large = [name for name, array in frozen.arrays.items() if array.nbytes > _SMALL_BYTES]
        buffers = {name: self._free.pop(name) for name in large}
        return Copy(meta, {name: _copied(array, buffers.get(name)) for name, array in frozen.arrays.items()}, buffers)

    def give_back(self, copy: Copy) -> None:
        """End the life of a copy that nobody reads any more: its buffers are free."""
        self._free.update(copy.buffers)
        copy.buffers.clear()
        copy.arrays.clear()


def _check(name: str, array: Any) -> None:
    if array.dtype.hasobject or array.dtype.names:
        raise TypeError(f"array {name!r} of a state is {array.dtype}: only plain types of a fixed size can be stored")


def _copied(array: Any, buffer: Bytes | None) -> Any:
    if buffer is None:
        return np.array(array, order="C")
    target = buffer[: array.nbytes].view(array.dtype).reshape(array.shape)
    np.copyto(target, array)
    return target
