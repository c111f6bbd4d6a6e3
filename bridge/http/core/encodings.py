"""Content-Encoding undone in bounded memory: a bomb costs its sender more than it costs us."""

import zlib
from collections.abc import Callable
from typing import Final

import zstandard

from bridge.http.errors import Refusal, broken, too_large, unsupported

_GZIP: Final = 31
"""zlib's wbits for a gzip header and trailer."""
MAX_PARTS: Final = 64
"""Members of a gzip file, frames of a zstd file. Each costs a copy of what follows it, so they are counted."""
ZSTD_WINDOW_BYTES: Final = 8 << 20
"""What a decoder has to support by RFC 8878; a frame may ask for gigabytes."""
_ZSTD_PIECE_BYTES: Final = 256
"""Input of a step. A block of 4 bytes may unfold to 128 KiB, so one step makes at most 8 MiB."""


def decode(encoding: str, data: bytes, limit: int) -> bytes:
    """The body as it was before `encoding` (value of Content-Encoding, empty when absent), at most `limit` bytes.

    Raises Refusal: 400 broken or cut off, 413 longer than `limit`, 415 unknown encoding.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return data
    decoder = _DECODERS.get(name)
    if decoder is None:
        text = f"Content-Encoding {encoding[:80]!r} is not known; send gzip, zstd or none"
        raise unsupported(text, Accept_Encoding="gzip, zstd")
    return decoder(data, limit)


def _too_large(limit: int) -> Refusal:
    return too_large(f"the body is longer than {limit} bytes when decompressed")


def _gzip(data: bytes, limit: int) -> bytes:
    out = b""
    for _ in range(MAX_PARTS):
        member = zlib.decompressobj(_GZIP)
        try:
            out += member.decompress(data, limit - len(out) + 1)
        except zlib.error as error:
            raise broken(f"not gzip: {error}") from None
        if len(out) > limit:
            raise _too_large(limit)
        if not member.eof:
            raise broken("the gzip body is cut off")
        data = member.unused_data
        if not data:
            return out
    raise broken(f"more than {MAX_PARTS} gzip members in one body")


def _zstd(data: bytes, limit: int) -> bytes:
    out = bytearray()
    for _ in range(MAX_PARTS):
        data = _frame(data, out, limit)
        if not data:
            return bytes(out)
    raise broken(f"more than {MAX_PARTS} zstd frames in one body")


def _frame(data: bytes, out: bytearray, limit: int) -> bytes:
    """Append the first frame of `data` to `out`; returns what follows it."""
    frame = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj()
    for at in range(0, len(data), _ZSTD_PIECE_BYTES):
        try:
            out += frame.decompress(data[at : at + _ZSTD_PIECE_BYTES])
        except zstandard.ZstdError as error:
            raise broken(f"not zstd: {error}") from None
        if len(out) > limit:
            raise _too_large(limit)
        if frame.eof:
            return frame.unused_data + data[at + _ZSTD_PIECE_BYTES :]
    raise broken("the zstd body is cut off")


_DECODERS: Final[dict[str, Callable[[bytes, int], bytes]]] = {"gzip": _gzip, "x-gzip": _gzip, "zstd": _zstd}
