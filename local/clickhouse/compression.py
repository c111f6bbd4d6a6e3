"""Content encodings of requests and responses, as streams."""

import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import lz4.frame
import zstandard

from local.clickhouse import errors


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Decompressor(Protocol):
    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What `data` unpacks to, in pieces of a bounded size however well it was packed."""
        ...


PIECE_BYTES: Final = 1 << 20


class _Unzlib:
    def __init__(self, window: int) -> None:
        self._unpacker = zlib.decompressobj(window)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            yield self._unpacker.decompress(data, PIECE_BYTES)
            data = self._unpacker.unconsumed_tail
            if self._unpacker.eof:
                return


class _Unlz4:
    def __init__(self) -> None:
        self._unpacker = lz4.frame.LZ4FrameDecompressor()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while not self._unpacker.eof:
            yield self._unpacker.decompress(data, PIECE_BYTES)
            data = b""
            if self._unpacker.needs_input:
                return


class _Unzstd:
    """python-zstandard's unpacker takes no bound, but a block of 4 bytes gives at most 128 KiB."""

    _SLICE: Final = 1 << 10

    def __init__(self) -> None:
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), self._SLICE):
            if not self._unpacker.eof:
                yield self._unpacker.decompress(data[at : at + self._SLICE])


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

    def pieces(self, data: bytes) -> Iterator[bytes]:
        yield data

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
    "lz4": _Unlz4,
    "zstd": _Unzstd,
    "gzip": lambda: _Unzlib(_GZIP_WINDOW),
    "deflate": lambda: _Unzlib(zlib.MAX_WBITS),
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
