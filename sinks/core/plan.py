"""Which rows of a range of telemetry.raw or telemetry.readings go into which table. Pure: a range and nothing else."""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from schemas import readings
from schemas.vocabulary import Kind, Verdict
from sinks.core.flow import Range
from sinks.core.history import history
from sinks.core.inserts import Insert, Opened, inserts, merge, record_columns, times
from sinks.core.records import READINGS_READER, Contract, Entry

_FOR_ALL: Final = ["device", "publisher", "channel", "received_at", "boot", "seq", "raw_row", "replay_of"]
_READING: Final = [*_FOR_ALL, "metric", "time", "value", "text", "quality", "reading_index"]
_FILED: Final = [*_FOR_ALL, "reason", "topic", "payload", "content_type", "ts"]
_EVENT: Final = [
    *("device", "publisher", "metric", "time", "received_at", "boot", "seq"),
    *("raw_row", "replay_of", "payload", "content_type"),
]


def plan_raw(part: Range) -> list[Insert]:
    """A range of telemetry.raw: its rows of the ledger."""
    received = [e.received for e in part.entries]
    columns = record_columns(part) | {
        "kind": pa.array([e.kind.value for e in part.entries], pa.string()),
        "received": pa.array([r.messages for r in received], pa.uint32()),
        "platform": pa.array([r.platform for r in received], pa.uint32()),
        "replayed": pa.array([r.replayed for r in received], pa.uint32()),
        "bytes": pa.array([len(e.value) for e in part.entries], pa.uint32()),
        "append_time": times([e.appended_ms for e in part.entries]),
    }
    return list(inserts(part, "ledger_received", pa.table(columns)))


def plan_readings(part: Range) -> list[Insert]:
    """A range of telemetry.readings: readings, denied, dead letters, events, history, and last the ledger's facts."""
    opened = [(e, _open(part, e)) for e in part.entries]
    with_rows = [(e, batch) for e, batch in opened if batch is not None]
    tables = [
        ("readings", merge(part, [(e, _accepted(e, b)) for e, b in with_rows], _READING)),
        ("denied", merge(part, _of(with_rows, Verdict.DENIED), _FILED)),
        ("dead_letters", merge(part, _of(with_rows, Verdict.DEAD_LETTER), _FILED)),
        ("events", _events(merge(part, _of(with_rows, Verdict.EVENT), _EVENT))),
        *history(part),
        ("ledger_facts", _facts(part, opened)),
    ]
    return [insert for table, rows in tables for insert in inserts(part, table, rows)]


def _open(part: Range, entry: Entry) -> pa.RecordBatch | None:
    """The record's rows; None where its headers say that it has none, which saves opening it."""
    if entry.kind is not Kind.DATA or entry.rows == 1:
        return None
    with Contract(part.where, entry.offset, READINGS_READER):
        return readings.read(entry.found, entry.value)


def _accepted(entry: Entry, batch: pa.RecordBatch) -> pa.RecordBatch:
    if not entry.counts.denied and not entry.counts.dead_letters and not entry.counts.events:
        return batch
    return batch.filter(pc.equal(batch.column("verdict"), int(Verdict.ACCEPTED)))


_COUNT: Final = {Verdict.DENIED: "denied", Verdict.DEAD_LETTER: "dead_letters", Verdict.EVENT: "events"}


def _of(opened: Opened, verdict: Verdict) -> Opened:
    some = [(e, b) for e, b in opened if getattr(e.counts, _COUNT[verdict])]
    return [(e, b.filter(pc.equal(b.column("verdict"), int(verdict)))) for e, b in some]


def _events(rows: pa.Table | None) -> pa.Table | None:
    """An event says its name where a reading says its metric. One without a time happened when it was received."""
    if rows is None:
        return None
    time = pc.coalesce(rows["time"], rows["received_at"])
    rows = rows.set_column(rows.column_names.index("time"), "time", time)
    return rows.rename_columns({"metric": "event"})


def _facts(part: Range, opened: Sequence[tuple[Entry, pa.RecordBatch | None]]) -> pa.Table | None:
    if not opened:
        return None
    entries = part.entries
    counts = ("accepted", "denied", "dead_letters", "duplicates", "replayed", "missing", "readings", "events")
    columns = (
        record_columns(part)
        | {"kind": pa.array([e.kind.value for e in entries], pa.string())}
        | {name: pa.array([getattr(e.counts, name) for e in entries], pa.uint32()) for name in counts}
        | {
            "received_from": times([_earliest(e, batch) for e, batch in opened]),
            "time": times([e.time_ms for e in entries]),
            "readings_epoch": pa.array([part.epoch] * len(entries), pa.uint16()),
            "readings_offset": pa.array([e.offset for e in entries], pa.uint64()),
            "append_time": times([e.appended_ms for e in entries]),
        }
    )
    return pa.table(columns)


def _earliest(entry: Entry, batch: pa.RecordBatch | None) -> int:
    if batch is None or not batch.num_rows:
        return entry.appended_ms
    return int(pc.min(batch.column("received_at")).value)
