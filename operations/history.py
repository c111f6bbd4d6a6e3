"""Readings that ClickHouse holds, in order of their time, chunk by chunk, as batches of telemetry.readings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from runtime.clickhouse.client import ClickHouse
from schemas import readings
from schemas.vocabulary import Verdict

CHUNK_ROWS: Final = 300_000
OLDEST_MS: Final = -2_208_988_800_000
NEWEST_MS: Final = 10_413_791_999_999
"""The years 1900 to 2299, which a table can hold."""
HOUR_MS: Final = 3_600_000
MINUTE_MS: Final = 60_000

_WHERE: Final = """value IS NOT NULL
    AND time >= fromUnixTimestamp64Milli({from:Int64}) AND time < fromUnixTimestamp64Milli({to:Int64})
    AND (empty({devices:Array(String)}) OR device IN {devices:Array(String)})
    AND (empty({metrics:Array(String)}) OR metric IN {metrics:Array(String)})"""
_COUNTS: Final = """
SELECT intDiv(toUnixTimestamp64Milli(time), {step:Int64}) AS step, count() FROM readings
WHERE """ + _WHERE + " GROUP BY step ORDER BY step"  # fmt: skip
_ROWS: Final = """
SELECT device, publisher, channel, metric, time, value, raw_partition, raw_row, reading_index FROM readings
WHERE """ + _WHERE + " ORDER BY time, raw_epoch, raw_partition, raw_offset, raw_row, reading_index"  # fmt: skip
_NEWEST: Final = """
SELECT max(toUnixTimestamp64Milli(time)) FROM readings
WHERE time >= fromUnixTimestamp64Milli({from:Int64}) AND time < fromUnixTimestamp64Milli({to:Int64})"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which readings. Times are ms, [from_ms, to_ms); no devices or metrics: all."""

    from_ms: int
    to_ms: int
    devices: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    def parameters(self, **more: Any) -> dict[str, Any]:
        names = {"devices": list(self.devices), "metrics": list(self.metrics)}
        return {"from": self.from_ms, "to": self.to_ms, **names, **more}

    def between(self, from_ms: int, to_ms: int) -> "Wanted":
        """The part of it in a stretch of time."""
        return replace(self, from_ms=max(from_ms, self.from_ms), to_ms=min(to_ms, self.to_ms))


def chunks(db: ClickHouse, wanted: Wanted) -> Iterator[tuple[int, int]]:
    """Stretches [from, to) of time with about CHUNK_ROWS readings each: whole hours, or minutes where they are many."""
    begin, end, count = None, 0, 0
    for step_ms, step, rows in _counted(db, wanted):
        begin, end, count = step * step_ms if begin is None else begin, (step + 1) * step_ms, count + rows
        if count >= CHUNK_ROWS:
            yield begin, end
            begin, count = None, 0
    if begin is not None:
        yield begin, end


def _counted(db: ClickHouse, wanted: Wanted) -> Iterator[tuple[int, int, int]]:
    """(length of the step in ms, its number, readings)."""
    for hour, rows in db.rows(_COUNTS, wanted.parameters(step=HOUR_MS)):
        if rows <= CHUNK_ROWS:
            yield HOUR_MS, hour, rows
            continue
        inside = Wanted(hour * HOUR_MS, (hour + 1) * HOUR_MS, wanted.devices, wanted.metrics)
        for minute, some in db.rows(_COUNTS, inside.parameters(step=MINUTE_MS)):
            yield MINUTE_MS, minute, some


def newest_ms(db: ClickHouse, wanted: Wanted) -> int:
    """Time of the newest reading of anybody in that stretch: until then the platform was at work."""
    found = db.rows(_NEWEST, wanted.parameters())
    return int(found[0][0])


def read(db: ClickHouse, wanted: Wanted) -> pa.Table:
    """The readings of a chunk, in order."""
    return pa.Table.from_batches(list(db.batches(_ROWS, wanted.parameters(), strings=True)))


def minutes(found: pa.Table) -> Iterator[tuple[int, int, Any]]:
    """(end of a minute in ms, partition, batch of telemetry.readings), minute after minute, partitions in order.

    A reading counts as received when it was measured: history that was sent later is judged as if it were live.
    """
    time_ms = found["time"].cast(pa.int64()).to_numpy()
    partition = found["raw_partition"].to_numpy().astype(np.int64)
    order = np.lexsort((np.arange(len(time_ms)), partition, time_ms // MINUTE_MS))
    key = np.stack([time_ms[order] // MINUTE_MS, partition[order]])
    cuts = np.flatnonzero((key[:, 1:] != key[:, :-1]).any(axis=0)) + 1
    batch = _batch(found.take(pa.array(order)))
    for begin, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(order)], strict=True):
        if end > begin:
            yield (int(key[0, begin]) + 1) * MINUTE_MS, int(key[1, begin]), batch.slice(begin, end - begin)


def _batch(found: pa.Table) -> pa.RecordBatch:
    n = found.num_rows
    columns: Mapping[str, Any] = {
        **{name: found[name].combine_chunks().dictionary_encode() for name in ("channel", "metric")},
        **_devices(found),
        "verdict": pa.array(np.full(n, Verdict.ACCEPTED, np.uint8)),
        "quality": pa.array(np.zeros(n, np.uint8)),
        "time": found["time"],
        "received_at": found["time"],
        "value": found["value"],
        "raw_row": found["raw_row"],
        "reading_index": found["reading_index"],
    }
    made = [_as(columns[f.name], f.type) if f.name in columns else pa.nulls(n, f.type) for f in readings.SCHEMA]
    return pa.RecordBatch.from_arrays(made, schema=readings.SCHEMA)


def _devices(found: pa.Table) -> dict[str, Any]:
    device, publisher = (found[name].combine_chunks() for name in ("device", "publisher"))
    encoded = device.dictionary_encode()
    return {"device": encoded, "publisher": encoded if publisher.equals(device) else publisher.dictionary_encode()}


def _as(column: Any, kind: Any) -> Any:
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return flat.chunk(0).cast(kind) if isinstance(flat, pa.ChunkedArray) else flat.cast(kind)
