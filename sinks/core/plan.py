"""Which rows of a range go into which table, under which token. Pure: a range and nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from schemas import control, headers, readings
from schemas.control import Device
from schemas.vocabulary import Kind, Verdict
from sinks.core.flow import Range
from sinks.core.records import Contract, Entry

MAX_MONTHS: Final = 50
"""Monthly partitions that one insert may touch; ClickHouse refuses more than 100."""
MAX_ROWS: Final = 500_000
"""Rows of a piece: well below the block that ClickHouse writes whole."""

RECORD: Final = ("raw_epoch", "raw_partition", "raw_offset")
NAMES: Final[dict[str, tuple[str, ...]]] = {
    "readings": (*RECORD, "raw_row", "reading_index"),
    "denied": (*RECORD, "raw_row"),
    "dead_letters": (*RECORD, "raw_row"),
    "policies": RECORD,
    "devices": RECORD,
    "ledger_received": RECORD,
    "ledger_facts": RECORD,
}
"""The columns that name a row for ever, by table."""

_FOR_ALL: Final = ["device", "publisher", "channel", "received_at", "boot", "seq", "raw_row", "replay_of"]
_READING: Final = [*_FOR_ALL, "metric", "time", "value", "text", "quality", "reading_index"]
_FILED: Final = [*_FOR_ALL, "reason", "topic", "payload", "content_type", "ts"]
_MS: Final = pa.timestamp("ms", "UTC")


@dataclass(frozen=True, slots=True)
class Insert:
    """Rows for one table in one statement. `token` names them: the same range always makes the same."""

    table: str
    rows: pa.Table
    token: str

    @property
    def names(self) -> tuple[str, ...]:
        return NAMES[self.table]


def plan_raw(part: Range) -> list[Insert]:
    """A range of telemetry.raw: its rows of the ledger."""
    received = [e.received for e in part.entries]
    columns = _record_columns(part) | {
        "kind": pa.array([e.kind.value for e in part.entries], pa.string()),
        "received": pa.array([r.messages for r in received], pa.uint32()),
        "platform": pa.array([r.platform for r in received], pa.uint32()),
        "replayed": pa.array([r.replayed for r in received], pa.uint32()),
        "bytes": pa.array([len(e.value) for e in part.entries], pa.uint32()),
        "append_time": _times([e.appended_ms for e in part.entries]),
    }
    return list(_inserts(part, "ledger_received", pa.table(columns)))


def plan_readings(part: Range) -> list[Insert]:
    """A range of telemetry.readings: readings, denied, dead letters, history, and last the facts of the ledger."""
    opened = [(e, _open(part, e)) for e in part.entries]
    with_rows = [(e, batch) for e, batch in opened if batch is not None]
    tables = [
        ("readings", _merge(part, [(e, _accepted(e, b)) for e, b in with_rows], _READING)),
        ("denied", _filed(part, with_rows, Verdict.DENIED)),
        ("dead_letters", _filed(part, with_rows, Verdict.DEAD_LETTER)),
        *_history(part),
        ("ledger_facts", _facts(part, opened)),
    ]
    return [insert for table, rows in tables if rows is not None for insert in _inserts(part, table, rows)]


def _open(part: Range, entry: Entry) -> pa.RecordBatch | None:
    """The record's rows; None where its headers say that it has none, which saves opening it."""
    if entry.kind is not Kind.DATA or entry.rows == 1:
        return None
    with Contract(part.where, entry.offset):
        return readings.read(entry.found, entry.value)


def _accepted(entry: Entry, batch: pa.RecordBatch) -> pa.RecordBatch:
    if not entry.counts.denied and not entry.counts.dead_letters:
        return batch
    return batch.filter(pc.equal(batch.column("verdict"), int(Verdict.ACCEPTED)))


def _filed(part: Range, opened: Sequence[tuple[Entry, pa.RecordBatch]], verdict: Verdict) -> pa.Table | None:
    of = {Verdict.DENIED: "denied", Verdict.DEAD_LETTER: "dead_letters"}[verdict]
    some = [(e, b) for e, b in opened if getattr(e.counts, of)]
    return _merge(part, [(e, b.filter(pc.equal(b.column("verdict"), int(verdict)))) for e, b in some], _FILED)


def _merge(part: Range, parts: Sequence[tuple[Entry, pa.RecordBatch]], columns: list[str]) -> pa.Table | None:
    """The batches one below the other, with the name of each row's raw record. None where there is no row."""
    sizes = [batch.num_rows for _, batch in parts]
    if not sum(sizes):
        return None
    rows = pa.Table.from_batches([batch.select(columns) for _, batch in parts])
    rows = rows.unify_dictionaries().combine_chunks()
    epochs = np.repeat(np.array([e.origin.epoch for e, _ in parts], np.uint16), sizes)
    offsets = np.repeat(np.array([e.origin.src for e, _ in parts], np.uint64), sizes)
    partitions = np.full(len(offsets), part.partition, np.uint16)
    for name, values in zip(RECORD, (epochs, partitions, offsets), strict=True):
        rows = rows.append_column(name, pa.array(values))
    return rows


def _facts(part: Range, opened: Sequence[tuple[Entry, pa.RecordBatch | None]]) -> pa.Table | None:
    if not opened:
        return None
    entries = part.entries
    counts = ("accepted", "denied", "dead_letters", "duplicates", "replayed", "missing", "readings")
    columns = (
        _record_columns(part)
        | {"kind": pa.array([e.kind.value for e in entries], pa.string())}
        | {name: pa.array([getattr(e.counts, name) for e in entries], pa.uint32()) for name in counts}
        | {
            "received_from": _times([_earliest(e, batch) for e, batch in opened]),
            "time": _times([e.time_ms for e in entries]),
            "readings_epoch": pa.array([part.epoch] * len(entries), pa.uint16()),
            "readings_offset": pa.array([e.offset for e in entries], pa.uint64()),
            "append_time": _times([e.appended_ms for e in entries]),
        }
    )
    return pa.table(columns)


def _earliest(entry: Entry, batch: pa.RecordBatch | None) -> int:
    if batch is None or not batch.num_rows:
        return entry.appended_ms
    return int(pc.min(batch.column("received_at")).value)


def _history(part: Range) -> Iterator[tuple[str, pa.Table]]:
    policies: list[dict[str, Any]] = []
    devices: list[dict[str, Any]] = []
    for entry in part.entries:
        if entry.kind is Kind.CONTROL:
            with Contract(part.where, entry.offset):
                key = entry.found.get("key", b"").decode()
                base = _control_row(part, entry)
                if key == control.POLICY_KEY:
                    policies.append(base | {"policy": entry.value.decode("utf-8", "replace")})
                elif control.device_of(key) is not None:
                    devices.append(base | _device_row(key, entry.value))
    if policies:
        yield "policies", pa.Table.from_pylist(policies, schema=_POLICIES)
    if devices:
        yield "devices", pa.Table.from_pylist(devices, schema=_DEVICES)


def _control_row(part: Range, entry: Entry) -> dict[str, Any]:
    version = headers.Version.parse(entry.found.get("version", b""))
    return {
        "version_epoch": version.epoch,
        "version_offset": version.offset,
        "raw_epoch": entry.origin.epoch,
        "raw_partition": part.partition,
        "raw_offset": entry.origin.src,
        "time": entry.time_ms,
        "append_time": entry.appended_ms,
    }


def _device_row(key: str, value: bytes) -> dict[str, Any]:
    if not value:
        return {"device": control.device_of(key), "role": "", "state": "removed", "parent": None, "labels": []}
    device = Device.decode(key, value)
    labels = [(str(k), v if isinstance(v, str) else orjson.dumps(v).decode()) for k, v in device.labels.items()]
    return {
        "device": device.id,
        "role": device.role,
        "state": device.state,
        "parent": device.parent,
        "labels": labels,
    }


_CONTROL: Final = [
    ("version_epoch", pa.uint16()),
    ("version_offset", pa.uint64()),
    ("raw_epoch", pa.uint16()),
    ("raw_partition", pa.uint16()),
    ("raw_offset", pa.uint64()),
    ("time", _MS),
    ("append_time", _MS),
]
_POLICIES: Final = pa.schema([*_CONTROL, ("policy", pa.string())])
_DEVICES: Final = pa.schema(
    [
        ("device", pa.string()),
        ("role", pa.string()),
        ("state", pa.string()),
        ("parent", pa.string()),
        ("labels", pa.map_(pa.string(), pa.string())),
        *_CONTROL,
    ]
)


def _record_columns(part: Range) -> dict[str, pa.Array]:
    return {
        "raw_epoch": pa.array([e.origin.epoch for e in part.entries], pa.uint16()),
        "raw_partition": pa.array([part.partition] * len(part.entries), pa.uint16()),
        "raw_offset": pa.array([e.origin.src for e in part.entries], pa.uint64()),
    }


def _times(values_ms: list[int]) -> pa.Array:
    return pa.array(values_ms, pa.int64()).cast(_MS)


def token(part: Range, table: str, piece: int) -> str:
    """The name of an insert. The rule is in it: another cut that begins at the same offset holds other rows."""
    return f"{table}/{part.epoch}/{part.partition}/{part.first}/{part.rule.encode()}/{piece}"


def _inserts(part: Range, table: str, rows: pa.Table) -> Iterator[Insert]:
    for piece, some in enumerate(pieces(rows, "time" if table == "readings" else None)):
        yield Insert(table, some, token(part, table, piece))


def pieces(rows: pa.Table, time: str | None) -> Iterator[pa.Table]:
    """Rows in pieces that touch at most MAX_MONTHS months of column `time` and hold at most MAX_ROWS rows."""
    for some in _by_months(rows, time) if time else (rows,):
        for first in range(0, some.num_rows, MAX_ROWS):
            yield some if some.num_rows <= MAX_ROWS else some.slice(first, MAX_ROWS)


def _by_months(rows: pa.Table, time: str) -> Iterator[pa.Table]:
    stamps = rows[time].to_numpy().astype("datetime64[ms]")
    months = stamps.astype("datetime64[M]").astype(np.int64)
    if not len(months) or months.max() - months.min() < MAX_MONTHS:
        yield rows
        return
    distinct = np.unique(months)
    for first in range(0, len(distinct), MAX_MONTHS):
        yield rows.filter(pa.array(np.isin(months, distinct[first : first + MAX_MONTHS])))
