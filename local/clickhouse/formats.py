"""Formats of results: chdb makes every streamed chunk a whole file; a joiner makes one stream of them."""

import struct
from typing import Final, Protocol


class Joiner(Protocol):
    tail: bytes
    """What ends the stream when all went well."""

    def join(self, chunk: bytes) -> bytes: ...


class _Plain:
    """Chunks follow each other as they are."""

    tail = b""

    def join(self, chunk: bytes) -> bytes:
        return chunk


class _Headed:
    """The same header lines lead each chunk: they are kept once."""

    tail = b""

    def __init__(self, lines: int) -> None:
        self._lines = lines
        self._head: bytes | None = None

    def join(self, chunk: bytes) -> bytes:
        if self._head is None:
            end = 0
            for _ in range(self._lines):
                end = chunk.index(b"\n", end) + 1
            self._head = chunk[:end]
            return chunk
        return chunk.removeprefix(self._head)


class _Arrow:
    """Each chunk is an IPC stream: the first schema is kept, later ones and the end marks are dropped.

    Layout of a message (Arrow's columnar format, encapsulated message): continuation, metadata length, a flatbuffer
    `Message` (field 1 header type, field 3 body length), body.
    """

    _SCHEMA: Final = 1
    _HEADER_TYPE: Final = 1
    _BODY_LENGTH: Final = 3

    def __init__(self) -> None:
        self.tail = b""

    def join(self, chunk: bytes) -> bytes:
        out: list[bytes] = []
        at = 0
        while at + 8 <= len(chunk):
            length = struct.unpack_from("<i", chunk, at + 4)[0]
            if length == 0:
                break
            kind, body = self._message(chunk, at + 8)
            end = at + 8 + length + body
            if kind != self._SCHEMA or not self.tail:
                out.append(chunk[at:end])
            if kind == self._SCHEMA:
                self.tail = b"\xff\xff\xff\xff\x00\x00\x00\x00"
            at = end
        return b"".join(out)

    def _message(self, chunk: bytes, at: int) -> tuple[int, int]:
        table = struct.unpack_from("<I", chunk, at)[0] + at
        vtable = table - struct.unpack_from("<i", chunk, table)[0]
        size = struct.unpack_from("<H", chunk, vtable)[0]

        def field(number: int) -> int:
            place = 4 + 2 * number
            return int(struct.unpack_from("<H", chunk, vtable + place)[0]) if place < size else 0

        kind_at, body_at = field(self._HEADER_TYPE), field(self._BODY_LENGTH)
        kind = chunk[table + kind_at] if kind_at else 0
        return kind, struct.unpack_from("<q", chunk, table + body_at)[0] if body_at else 0


_PLAIN: Final = frozenset(
    (
        *("Native", "RowBinary", "TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "CSV", "Values", "TSKV"),
        *("JSONEachRow", "JSONLines", "NDJSON", "JSONCompactEachRow", "JSONStringsEachRow", "LineAsString", "RawBLOB"),
    )
)
_HEADED: Final[dict[str, int]] = {
    **dict.fromkeys(("CSVWithNames", "TabSeparatedWithNames", "TSVWithNames", "JSONCompactEachRowWithNames"), 1),
    **dict.fromkeys(("CSVWithNamesAndTypes", "TabSeparatedWithNamesAndTypes", "TSVWithNamesAndTypes"), 2),
    "JSONCompactEachRowWithNamesAndTypes": 2,
}
_TYPES: Final[dict[str, str]] = {
    "Native": "application/octet-stream",
    "RowBinary": "application/octet-stream",
    "ArrowStream": "application/vnd.apache.arrow.stream",
    "Arrow": "application/vnd.apache.arrow.file",
    "Parquet": "application/vnd.apache.parquet",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
}


def joiner(name: str) -> Joiner | None:
    """How results of this format are streamed; None: they are answered whole."""
    if name in _PLAIN:
        return _Plain()
    if name in _HEADED:
        return _Headed(_HEADED[name])
    return _Arrow() if name == "ArrowStream" else None


def content_type(name: str) -> str:
    if name in _TYPES:
        return _TYPES[name]
    if name.startswith("JSON"):
        return "application/json; charset=UTF-8"
    return f"text/{'tab-separated-values' if name.startswith(('TSV', 'TabSeparated')) else 'plain'}; charset=UTF-8"
