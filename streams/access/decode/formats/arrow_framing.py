"""Whether an Arrow IPC stream is whole and has compressed buffers, read from its framing before anything is allocated.

Layout (Arrow's columnar format, "IPC streaming format"): per message the marker 0xFFFFFFFF, the size of its metadata as
int32, the metadata, a flatbuffer, padded to 8 bytes, and a body of `bodyLength` bytes. The tables of the flatbuffer
that matter here (Message.fbs): Message {0 version, 1 header_type, 2 header, 3 bodyLength}, RecordBatch {0 length,
1 nodes, 2 buffers, 3 compression}, DictionaryBatch {0 id, 1 data: RecordBatch}.
"""

import struct
from typing import Final

_MARKER: Final = b"\xff\xff\xff\xff"
_DICTIONARY, _BATCH = 2, 3
"""Values of Message.header_type."""
_BROKEN: Final = "truncated, or no Arrow IPC stream"


def is_compressed(stream: bytes) -> bool:
    """Raises EOFError where the framing does not fit the bytes: the stream is truncated, goes on after its end marker,
    or is none."""
    try:
        at, compressed = 0, False
        while (step := _step(stream, at)) is not None:
            at, found = step
            compressed = compressed or found
    except struct.error:
        raise EOFError(_BROKEN) from None
    return compressed


def _step(stream: bytes, at: int) -> tuple[int, bool] | None:
    """(where the next message begins, whether this one is compressed); None at the end marker."""
    if stream[at : at + 4] == _MARKER:
        at += 4
    size = _number(stream, "<i", at)
    at += 4
    if size == 0:
        if at != len(stream):
            raise EOFError("there is more after the end of the Arrow IPC stream")
        return None
    if size < 0 or at + size > len(stream):
        raise EOFError(_BROKEN)
    body_bytes, compressed = _message(stream[at : at + size])
    if body_bytes < 0:
        raise EOFError(_BROKEN)
    return at + size + body_bytes, compressed


def _message(metadata: bytes) -> tuple[int, bool]:
    """(bytes of the body, whether its buffers are compressed)."""
    message = _number(metadata, "<I", 0)
    kind_at, header_at, length_at = (_field(metadata, message, i) for i in (1, 2, 3))
    kind = _number(metadata, "<B", kind_at) if kind_at else 0
    length = _number(metadata, "<q", length_at) if length_at else 0
    if kind not in (_DICTIONARY, _BATCH) or not header_at:
        return length, False
    batch = _table(metadata, header_at)
    if kind == _DICTIONARY:
        data_at = _field(metadata, batch, 1)
        if not data_at:
            return length, False
        batch = _table(metadata, data_at)
    return length, _field(metadata, batch, 3) != 0


def _field(buffer: bytes, table: int, index: int) -> int:
    """Where a table's field lies; 0 when it is absent."""
    vtable = table - _number(buffer, "<i", table)
    size = _number(buffer, "<H", vtable)
    slot = 4 + 2 * index
    offset = _number(buffer, "<H", vtable + slot) if slot + 2 <= size else 0
    return table + offset if offset else 0


def _table(buffer: bytes, at: int) -> int:
    """The table that the offset at this place points to."""
    return at + _number(buffer, "<I", at)


def _number(buffer: bytes, form: str, at: int) -> int:
    if at < 0:
        raise EOFError(_BROKEN)
    found: int = struct.unpack_from(form, buffer, at)[0]
    return found
