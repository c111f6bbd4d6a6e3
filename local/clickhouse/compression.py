"""Content encodings of requests and responses, as streams."""

import zlib
from collections.abc import Callable
from typing import Final, Protocol

import lz4.frame
import zstandard

from local.clickhouse import errors


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Decompressor(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...


class _Lz4:
    def __init__(self) -> None:
        self._compressor = lz4.frame.LZ4FrameCompressor()
        self._head: bytes = self._compressor.begin()

    def compress(self, data: bytes, /) -> bytes:
        head, self._head = self._head, b""
        return head + bytes(self._compressor.compress(data))

    def flush(self) -> bytes:
        return self._head + bytes(self._compressor.flush())


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def decompress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


_GZIP_WINDOW: Final = 31  # zlib's way to say: with a gzip header, window of 32 KiB

_COMPRESSORS: Final[dict[str, Callable[[], Compressor]]] = {
    "lz4": _Lz4,
    "zstd": lambda: zstandard.ZstdCompressor(level=1).compressobj(),
    "gzip": lambda: zlib.compressobj(1, zlib.DEFLATED, _GZIP_WINDOW),
}
_DECOMPRESSORS: Final[dict[str, Callable[[], Decompressor]]] = {
    "": _Plain,
    "identity": _Plain,
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
    "gzip": lambda: zlib.decompressobj(_GZIP_WINDOW),
    "deflate": zlib.decompressobj,
}
BROKEN: Final = (zlib.error, zstandard.ZstdError, RuntimeError, EOFError)
"""What decompressors raise on bytes that are none of theirs."""


def choose(accepted: str) -> str | None:
    """The encoding of a response, from Accept-Encoding: the cheapest that the client takes."""
    offered = {part.split(";")[0].strip() for part in accepted.split(",")}
    return next((name for name in _COMPRESSORS if name in offered), None)


def compressor(name: str | None) -> Compressor:
    return _COMPRESSORS[name]() if name else _Plain()


def decompressor(name: str) -> Decompressor:
    if name not in _DECOMPRESSORS:
        raise errors.unsupported(f"Content-Encoding {name}")
    return _DECOMPRESSORS[name]()
