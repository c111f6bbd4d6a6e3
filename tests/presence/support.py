"""Records of telemetry.readings for the presence stage, and its answers as rows."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from runtime.stage.contract import Output, Record
from schemas import headers, ipc, presence, readings
from schemas.control import Device, device_key
from schemas.headers import Counts, ReadingsHeaders, Version
from schemas.vocabulary import Kind, Verdict

NOW_MS = 1_790_000_000_000
MESSAGES = (Verdict.ACCEPTED, Verdict.DENIED, Verdict.DEAD_LETTER)


def row(device: str, received_at: int = NOW_MS, verdict: Verdict = Verdict.ACCEPTED, **more: Any) -> dict[str, Any]:
    """A reading, unless given otherwise."""
    found = {"device": device, "publisher": device, "verdict": int(verdict), "received_at": received_at}
    return found | {"quality": 0, "reading_index": 0, "metric": "a" if verdict is Verdict.ACCEPTED else None} | more


def event(device: str, metric: str, received_at: int = NOW_MS, **more: Any) -> dict[str, Any]:
    """`connected`, `disconnected`, `event/offline` …"""
    return row(device, received_at, Verdict.EVENT, metric=metric, **more)


def data(offset: int, rows: Sequence[dict[str, Any]]) -> Record:
    found = [given | {"raw_row": number} for number, given in enumerate(rows)]
    batch = pa.RecordBatch.from_pylist(found, schema=readings.SCHEMA)
    by = {verdict: sum(given["verdict"] == verdict for given in rows) for verdict in Verdict}
    counts = Counts(
        received=len(rows),
        accepted=by[Verdict.ACCEPTED],
        denied=by[Verdict.DENIED],
        dead_letters=by[Verdict.DEAD_LETTER],
        readings=by[Verdict.ACCEPTED],
        events=by[Verdict.EVENT],
    )
    return Record(
        0, offset, 0, offset, Kind.DATA, dict(ReadingsHeaders(Kind.DATA, 0, counts).encode()), ipc.encode(batch)
    )


def tick(offset: int, time_ms: int) -> Record:
    return Record(0, offset, 0, offset, Kind.TICK, dict(ReadingsHeaders(Kind.TICK, time_ms).encode()), b"")


def control(offset: int, key: str, value: bytes, version: Version | None = None) -> Record:
    passed_on = (("version", (version or Version(0, offset)).encode()), ("key", key.encode()))
    found = dict(ReadingsHeaders(Kind.CONTROL, 0, control=passed_on).encode())
    return Record(0, offset, 0, offset, Kind.CONTROL, found, value)


def registered(offset: int, device: Device) -> Record:
    return control(offset, device_key(device.id), device.encode(with_token=False))


def rows_of(outputs: Sequence[Output]) -> list[dict[str, Any]]:
    """The rows of the one record, or of none."""
    if not outputs:
        return []
    (output,) = outputs
    found = headers.table(output.headers)
    rows = headers.number(found, "rows")
    if not rows:
        assert output.value == b""
        return []
    batch = presence.read(found, output.value)
    batch.validate(full=True)
    assert batch.num_rows == rows
    return list(batch.to_pylist())
