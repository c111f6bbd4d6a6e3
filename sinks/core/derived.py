"""Which rows of a range of a derived topic go into which table. Pure: a range and nothing else.

The rows go first and the ledger's row of each record last, as with readings.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import aggregates, anomalies, incidents, presence
from schemas.aggregates import COUNTS
from sinks.core.flow import Range
from sinks.core.inserts import Insert, Opened, inserts, merge, record_columns, spread, times
from sinks.core.records import Contract

Read = Callable[[Mapping[str, bytes], bytes], pa.RecordBatch]
Split = Callable[[pa.Table], Iterator[tuple[str, pa.Table]]]


def plan_aggregates(part: Range) -> list[Insert]:
    return _plan(part, aggregates.read, aggregates.SCHEMA, _by_scope)


def plan_anomalies(part: Range) -> list[Insert]:
    return _plan(part, anomalies.read, anomalies.SCHEMA, lambda rows: iter([("anomalies", rows)]))


def plan_incidents(part: Range) -> list[Insert]:
    return _plan(part, incidents.read, incidents.SCHEMA, lambda rows: iter([("incidents", rows)]))


def plan_presence(part: Range) -> list[Insert]:
    return _plan(part, presence.read, presence.SCHEMA, _history_and_newest)


def _plan(part: Range, read: Read, schema: Any, split: Split) -> list[Insert]:
    opened = list(_open(part, read))
    rows = merge(part, opened, schema.names)
    tables = split(_named(rows, opened)) if rows is not None else iter(())
    return [insert for table, some in chain(tables, _ledger(part)) for insert in inserts(part, table, some)]


def _open(part: Range, read: Read) -> Iterator[Any]:
    for entry in part.entries:
        if entry.rows > 1:
            with Contract(part.where, entry.offset):
                yield entry, read(entry.found, entry.value)


def _named(rows: pa.Table, opened: Opened) -> pa.Table:
    """With the place of each row in its record, and when Kafka appended that."""
    places = np.concatenate([np.arange(batch.num_rows, dtype=np.uint32) for _, batch in opened])
    appended = spread(opened, np.array([e.appended_ms for e, _ in opened], np.int64))
    rows = rows.append_column("row", pa.array(places))
    return rows.append_column("append_time", appended.cast(pa.timestamp("ms", "UTC")))


def _by_scope(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Windows of devices, and those of groups, whose `device` is the group's name."""
    of_device = pc.equal(rows["scope"], aggregates.DEVICE)
    devices, groups = rows.filter(of_device), rows.filter(pc.invert(of_device))
    if devices.num_rows:
        yield "aggregates_1m", devices.drop_columns("scope")
    if groups.num_rows:
        yield "group_aggregates_1m", groups.rename_columns({"device": "name"})


def _history_and_newest(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """All changes, and the last one of each device."""
    yield "presence", rows
    device = rows["device"].combine_chunks().dictionary_encode()
    last = np.zeros(len(device.dictionary), np.int64)
    last[device.indices.to_numpy()] = np.arange(len(device))
    yield "presence_newest", rows.take(pa.array(np.sort(last)))


def _ledger(part: Range) -> Iterator[tuple[str, pa.Table]]:
    """A row a record. `since` is the stream time during which the readings that it counts were judged: that of the
    record before, for stream time moves with ticks and each tick has a record."""
    entries = part.entries
    if not entries:
        return
    before = [part.since_ms, *(e.time_ms for e in entries)]
    since = [0 if e.origin.prev < 0 else at for e, at in zip(entries, before, strict=False)]
    columns = (
        record_columns(part)
        | {
            "topic": pa.array([part.topic] * len(entries), pa.string()),
            "prev": pa.array([e.origin.prev for e in entries], pa.int64()),
            "epoch": pa.array([part.epoch] * len(entries), pa.uint16()),
            "offset": pa.array([e.offset for e in entries], pa.uint64()),
            "kind": pa.array([e.kind.value for e in entries], pa.string()),
            "rows": pa.array([e.rows - 1 for e in entries], pa.uint32()),
            "since": times(since),
            "time": times([e.time_ms for e in entries]),
            "append_time": times([e.appended_ms for e in entries]),
        }
        | {name: pa.array([e.said.get(name, 0) for e in entries], pa.int64()) for name in COUNTS}
    )
    yield "ledger_derived", pa.table(columns)


TABLES: Final = {
    aggregates.NAME: ("aggregates_1m", "group_aggregates_1m"),
    anomalies.NAME: ("anomalies",),
    incidents.NAME: ("incidents",),
    presence.NAME: ("presence",),
}
"""The tables that hold each row of a topic once: their rows together are as many as the records' headers say."""
