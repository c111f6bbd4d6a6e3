"""Rows to Arrow without an Arrow call per item, and the group's one batch to records of a partition each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from bridge.core.rows import OVERHEAD_BYTES, WIDTH, Properties
from schemas import ipc, raw
from schemas.vocabulary import Transport

_HEAD: Final = ipc.head(raw.SCHEMA)
_TIME: Final = raw.SCHEMA.field("received_at").type
_ABSENT: Final = Properties()
_CUT: Final = Properties(content_type=raw.CUT.encode())
_CUT_KEEPS_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Record:
    """A data record of telemetry.raw: `value` is one Arrow IPC stream of `rows` rows of one partition, of which
    `platform` are the platform's own."""

    partition: int
    value: bytes
    rows: int
    platform: int


def batch(flat: list[Any], payload_bytes: int) -> pa.RecordBatch:
    """Rows (see bridge.core.rows) as a batch of schemas.raw.SCHEMA. Longer payloads are cut, see bridge.core."""
    n = len(flat) // WIDTH
    payloads, properties = flat[2::WIDTH], flat[3::WIDTH]
    if n and max(map(len, payloads)) > payload_bytes:
        _cut(payloads, properties, payload_bytes)
    flags = np.fromiter(flat[4::WIDTH], np.uint16, n)
    return pa.RecordBatch.from_arrays(
        [
            _bytes(_valid_utf8(flat[0::WIDTH]), pa.string()),
            _bytes(_valid_utf8(flat[1::WIDTH]), pa.string()),
            _bytes(payloads, pa.binary()),
            *_text_columns(properties, n),
            _fixed(flags >> 8, np.uint8, pa.uint8()),
            _fixed(flags >> 1 & 3, np.uint8, pa.uint8()),
            pa.Array.from_buffers(pa.bool_(), n, [None, _bits(flags & 1)]),
            _fixed(np.fromiter(flat[5::WIDTH], np.int64, n), np.int64, _TIME),
            pa.nulls(n, pa.string()),
        ],
        schema=raw.SCHEMA,
    )


def records(partitions: Sequence[list[Any]], record_bytes: int, payload_bytes: int) -> list[Record]:
    """The records of a group: `partitions[p]` holds the rows of partition p. Order within a partition is kept.

    A record holds at most `record_bytes` of rows (before compression), or one row that alone is larger.
    """
    whole = batch([item for rows in partitions for item in rows], payload_bytes)
    platform = np.frombuffer(whole.column("transport").buffers()[1], np.uint8) == Transport.PLATFORM
    found: list[Record] = []
    at = 0
    for partition, rows in enumerate(partitions):
        end = at + len(rows) // WIDTH
        for first, last in _pieces(whole, at, end, record_bytes):
            piece = whole.slice(first, last - first)
            value = b"".join((_HEAD, piece.serialize(), ipc.END))
            found.append(Record(partition, value, last - first, int(np.count_nonzero(platform[first:last]))))
        at = end
    return found


def _pieces(whole: pa.RecordBatch, at: int, end: int, record_bytes: int) -> Iterator[tuple[int, int]]:
    """[at, end) cut into ranges of at most `record_bytes` each."""
    if at == end:
        return
    if whole.nbytes + OVERHEAD_BYTES * whole.num_rows <= record_bytes:
        yield at, end
        return
    sizes = sum(_sizes(whole.column(i).slice(at, end - at)) for i in range(7)) + OVERHEAD_BYTES
    totals = np.cumsum(sizes)
    first = 0
    while first < len(totals):
        before = totals[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(totals, before + record_bytes, "right")))
        yield at + first, at + last
        first = last


def _sizes(column: Any) -> Any:
    """Bytes of each item of a string or binary column; int64, so that sums cannot overflow."""
    if column.null_count == len(column):
        return np.zeros(len(column), np.int64)
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    return np.diff(offsets).astype(np.int64)


def _cut(payloads: list[bytes], properties: list[Properties | None], payload_bytes: int) -> None:
    for i, payload in enumerate(payloads):
        if len(payload) > payload_bytes:
            payloads[i] = payload[:_CUT_KEEPS_BYTES]
            properties[i] = (properties[i] or _CUT)._replace(content_type=_CUT.content_type)


def _text_columns(properties: list[Properties | None], n: int) -> list[Any]:
    """content_type, ts, boot and seq."""
    if properties.count(None) == n:
        return [pa.nulls(n, pa.string())] * 4
    content_type, ts, boot, seq, _ = zip(*(found or _ABSENT for found in properties), strict=True)
    return [_nullable(list(items)) for items in (content_type, ts, boot, seq)]


def _nullable(items: list[bytes | None]) -> Any:
    missing = items.count(None)
    if missing == len(items):
        return pa.nulls(len(items), pa.string())
    if not missing:
        return _bytes(_valid_utf8(items), pa.string())  # type: ignore[arg-type]
    present = np.fromiter((item is not None for item in items), np.uint8, len(items))
    return _bytes(_valid_utf8([item or b"" for item in items]), pa.string(), _bits(present))


def _valid_utf8(items: list[bytes]) -> list[bytes]:
    """Arrow never checks: a string column with other bytes would crash its readers. Brokers check, but not all."""
    if b"".join(items).isascii():
        return items
    return [item.decode("utf-8", "replace").encode() for item in items]


def _bytes(items: list[bytes], kind: Any, validity: Any = None) -> Any:
    """A string or binary column: one join and one running sum."""
    n = len(items)
    offsets = np.zeros(n + 1, np.int32)
    np.cumsum(np.fromiter(map(len, items), np.int32, n), out=offsets[1:])
    return pa.Array.from_buffers(kind, n, [validity, pa.py_buffer(offsets), pa.py_buffer(b"".join(items))])


def _bits(values: Any) -> Any:
    """0/1 numbers as an Arrow bitmap."""
    return pa.py_buffer(np.packbits(values.astype(np.uint8), bitorder="little"))


def _fixed(values: Any, dtype: Any, kind: Any) -> Any:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values, dtype))])
