"""Records for the access stage, and its answers as rows."""

from typing import Any

import pyarrow as pa

from runtime.stage.contract import Output, Record
from schemas import headers, ipc, raw, readings
from schemas.control import Device, device_key
from schemas.headers import Counts, Version
from schemas.vocabulary import Kind

NOW_MS = 1_790_000_000_000
_OTHERWISE: dict[str, Any] = {
    "payload": b'{"value":1}',
    "transport": 0,
    "qos": 1,
    "retain": False,
    "received_at": NOW_MS,
}


def batch(rows: list[dict[str, Any]]) -> Any:
    """A batch of telemetry.raw; columns that a row does not give have a default, or are null."""
    columns = []
    for field in raw.SCHEMA:
        values = [row.get(field.name, _OTHERWISE.get(field.name)) for row in rows]
        columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=raw.SCHEMA)


def message(device: str, payload: bytes | str, channel: str = "climate", **more: Any) -> dict[str, Any]:
    body = payload.encode() if isinstance(payload, str) else payload
    return {"device": device, "topic": f"d/{device}/telemetry/{channel}", "payload": body} | more


def data(offset: int, rows: list[dict[str, Any]]) -> Record:
    found = batch(rows)
    return Record(0, offset, 0, offset, Kind.DATA, dict(headers.raw_data(len(rows))), ipc.encode(found))


def tick(offset: int, time_ms: int) -> Record:
    return Record(0, offset, 0, offset, Kind.TICK, dict(headers.raw_tick(time_ms)), b"")


def control(offset: int, key: str, value: bytes, version: Version | None = None) -> Record:
    found = dict(headers.raw_control(version or Version(0, offset), key))
    return Record(0, offset, 0, offset, Kind.CONTROL, found, value)


def registered(offset: int, device: Device, version: Version | None = None) -> Record:
    return control(offset, device_key(device.id), device.encode(with_token=False), version)


def rows_of(outputs: Any) -> list[dict[str, Any]]:
    """The rows of the one answer."""
    (output,) = outputs
    found = readings.read(dict(output.headers), output.value)
    found.validate(full=True)
    return list(found.to_pylist())


def counts_of(outputs: Any) -> Counts:
    (output,) = outputs
    return Counts.parse(dict(output.headers))


def same(one: list[Output], other: list[Output]) -> bool:
    return [(o.topic, o.value, list(o.headers)) for o in one] == [(o.topic, o.value, list(o.headers)) for o in other]
