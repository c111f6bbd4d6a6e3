"""A state in pieces: small arrays travel in the manifest, large ones are cut into chunks that are stored once. Pure.

A chunk is named by the digest of its bytes, so one that did not change is found to be stored already. Arrays are cut at
fixed places: one that only grows at its end keeps all chunks but the last.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

import numpy as np
import zstandard

from runtime.errors import MillraceError

_LEVEL: Final = 1
"""Of zstd: numbers compress little, and a million series are compressed at every snapshot."""
_DIGEST_BYTES: Final = 16


class SnapshotError(MillraceError):
    """The bytes are not a whole snapshot. An older one may be usable."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a state is cut: chunks of `chunk_bytes`; the smallest arrays stay together up to `inline_bytes`."""

    chunk_bytes: int = 4 << 20
    inline_bytes: int = 1 << 20


CUT: Final = Cut()


@dataclass(frozen=True, slots=True)
class Chunk:
    """`size` bytes of an array, as they are stored: under `name` (digest-writer), in the record at `offset`.

    The writer is part of the name so that what one writer drops is never what another has written of the same bytes.
    """

    name: str
    offset: int
    size: int

    @property
    def digest(self) -> str:
        return self.name.partition("-")[0]


@dataclass(frozen=True, slots=True)
class Layout:
    """An array that is stored in chunks: `type` as numpy's dtype.str, its shape, its bytes in order."""

    type: str
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]


# --- taking a state apart


def digest(piece: Any) -> str:
    return hashlib.sha256(piece).hexdigest()[: 2 * _DIGEST_BYTES]


def divide(arrays: Mapping[str, Any], cut: Cut) -> tuple[dict[str, Any], dict[str, list[memoryview]]]:
    """(arrays that stay together, pieces of each other one). Arrays must be contiguous."""
    budget, inline, large = cut.inline_bytes, set(), {}
    for name, array in sorted(arrays.items(), key=lambda item: (item[1].nbytes, item[0])):
        budget -= array.nbytes
        if budget >= 0:
            inline.add(name)
        else:
            large[name] = list(_pieces(array, cut.chunk_bytes))
    return {name: array for name, array in arrays.items() if name in inline}, large


def _pieces(array: Any, size: int) -> Iterator[memoryview]:
    whole = _bytes_of(array)
    return (whole[at : at + size] for at in range(0, len(whole), size))


def _bytes_of(array: Any) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))


def compress(piece: Any) -> bytes:
    return zstandard.ZstdCompressor(level=_LEVEL).compress(piece)


# --- putting it together again


def expand(chunk: Chunk, value: bytes) -> bytes:
    """The bytes of a stored chunk. Raises SnapshotError unless they are the ones it was named for."""
    try:
        found = zstandard.ZstdDecompressor().decompress(value)
    except zstandard.ZstdError as error:
        raise SnapshotError(f"chunk {chunk.name} at offset {chunk.offset} cannot be read: {error}") from None
    if digest(found) != chunk.digest or len(found) != chunk.size:
        raise SnapshotError(f"chunk {chunk.name} at offset {chunk.offset} holds other bytes: it is damaged")
    return found


class Assembly:
    """Arrays on their way back from chunks, which may come in any order."""

    def __init__(self, layouts: Mapping[str, Layout]) -> None:
        """Raises SnapshotError where chunks do not make up their array."""
        self.arrays: dict[str, Any] = {}
        self._targets: dict[Chunk, list[memoryview]] = {}
        for name, layout in layouts.items():
            self.arrays[name] = array = np.empty(layout.shape, layout.type)
            ends = list(accumulate(chunk.size for chunk in layout.chunks))
            if ends[-1:] != [array.nbytes]:
                raise SnapshotError(f"array {name!r} has {array.nbytes} bytes, its chunks end at {ends[-1:]}")
            for chunk, end in zip(layout.chunks, ends, strict=True):
                self._targets.setdefault(chunk, []).append(_bytes_of(array)[end - chunk.size : end])

    @property
    def missing(self) -> list[Chunk]:
        """Chunks that have not come yet, in the order of their records."""
        return sorted(self._targets, key=lambda chunk: chunk.offset)

    def put(self, chunk: Chunk, value: bytes) -> None:
        """The stored value of a missing chunk. Raises SnapshotError when it is damaged."""
        found = expand(chunk, value)
        for target in self._targets.pop(chunk):
            target[:] = found


# --- which chunks are there


@dataclass(slots=True)
class ChunkIndex:
    """The chunks of a partition that its owner knows of, by digest or by name.

    `named` by the newest manifest; `previous`: by the one before it only; `unreferenced`: written for a manifest that
    is not stored yet; `obsolete`: needed by no manifest, to be dropped from the topic.
    """

    named: dict[str, Chunk] = field(default_factory=dict)
    previous: dict[str, Chunk] = field(default_factory=dict)
    unreferenced: dict[str, Chunk] = field(default_factory=dict)
    obsolete: set[str] = field(default_factory=set)

    def find(self, of_digest: str) -> Chunk | None:
        """A stored chunk with these bytes."""
        return self.named.get(of_digest) or self.previous.get(of_digest) or self.unreferenced.get(of_digest)

    def wrote(self, chunk: Chunk) -> None:
        self.unreferenced[chunk.digest] = chunk

    def after(self, used: Iterable[Chunk]) -> "ChunkIndex":
        """What it is once a manifest that names the chunks `used` is stored."""
        named = {chunk.digest: chunk for chunk in used}
        previous = {digest: chunk for digest, chunk in self.named.items() if digest not in named}
        kept = {chunk.name for chunk in (*named.values(), *previous.values())}
        gone = {chunk.name for chunk in (*self.previous.values(), *self.unreferenced.values())}
        return ChunkIndex(named, previous, {}, (self.obsolete | gone) - kept)
