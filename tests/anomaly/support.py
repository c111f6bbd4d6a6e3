"""Records for the anomaly stage, and its outputs as rows."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from runtime.stage.contract import Output, Record
from schemas import anomalies, headers, incidents, ipc, readings
from schemas.control import Device, Mark, device_key, mark_key
from schemas.headers import Counts, ReadingsHeaders, Version, table
from schemas.topics import ANOMALIES, INCIDENTS
from schemas.vocabulary import Kind, Verdict
from streams.anomaly.core.state import SETTINGS_KEY
from streams.anomaly.detectors import check

NOW_MS = 1_790_000_000_000
Row = tuple[str, str, float, int]
"""Device, metric, value, event time."""


def batch(rows: Sequence[dict[str, Any]]) -> Any:
    """A batch of telemetry.readings; columns that a row does not give have a default."""
    full = []
    for n, row in enumerate(rows):
        default = {
            "verdict": int(Verdict.ACCEPTED),
            "device": "d-1",
            "channel": "climate",
            "metric": "temperature",
            "time": NOW_MS,
            "quality": 0,
            "raw_row": n,
            "reading_index": 0,
        }
        found = default | row
        full.append({"publisher": found["device"], "received_at": found["time"]} | found)
    return pa.RecordBatch.from_pylist(full, schema=readings.SCHEMA)


def data(offset: int, rows: Sequence[dict[str, Any]], time_ms: int = NOW_MS) -> Record:
    found = table(ReadingsHeaders(Kind.DATA, time_ms, Counts(len(rows), len(rows), readings=len(rows))).encode())
    return Record(0, offset, 0, offset, Kind.DATA, found, ipc.encode(batch(rows)))


def tick(offset: int, time_ms: int) -> Record:
    return Record(0, offset, 0, offset, Kind.TICK, table(ReadingsHeaders(Kind.TICK, time_ms).encode()), b"")


def control(offset: int, key: str, value: bytes, version: Version | None = None) -> Record:
    mark = tuple(h for h in headers.raw_control(version or Version(0, offset), key) if h[0] in ("version", "key"))
    found = table(ReadingsHeaders(Kind.CONTROL, NOW_MS, control=mark).encode())
    return Record(0, offset, 0, offset, Kind.CONTROL, found, value)


def settings(offset: int, text: str) -> Record:
    return control(offset, SETTINGS_KEY, check(text, "test").encode())


def registered(offset: int, device: Device) -> Record:
    return control(offset, device_key(device.id), device.encode(with_token=False))


def marked(offset: int, mark: Mark) -> Record:
    return control(offset, mark_key(mark.incident), mark.encode())


def rows_of(outputs: Sequence[Output], topic: str) -> list[dict[str, Any]]:
    """The rows written to a topic, checked against its schema and headers; times as ms."""
    found: list[dict[str, Any]] = []
    read = {ANOMALIES: anomalies.read, INCIDENTS: incidents.read}[topic]
    for output in outputs:
        if output.topic == topic:
            said = table(output.headers)
            assert (int(said["rows"]) > 0) is bool(output.value)
            if output.value:
                rows = read(said, output.value)
                rows.validate(full=True)
                assert rows.num_rows == int(said["rows"])
                found += _plain(rows)
    return found


def _plain(rows: Any) -> list[dict[str, Any]]:
    columns = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in rows.columns]
    return list(pa.RecordBatch.from_arrays(columns, names=rows.schema.names).to_pylist())


def same(one: Sequence[Output], other: Sequence[Output]) -> bool:
    return [(o.topic, o.value, list(o.headers)) for o in one] == [(o.topic, o.value, list(o.headers)) for o in other]
