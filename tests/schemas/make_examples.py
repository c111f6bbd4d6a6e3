"""Writes one stored example of the newest version of each Arrow schema: run once when a version is added.

python -m tests.schemas.make_examples
"""

from pathlib import Path

import pyarrow as pa

from schemas import aggregates, anomalies, incidents, ipc, presence, raw, readings

HERE = Path(__file__).parent / "examples"


def raw_example() -> pa.RecordBatch:
    row = {
        "device": "sensor-1",
        "topic": "d/sensor-1/telemetry/climate",
        "payload": b'{"temperature":21.5}',
        "content_type": "application/json",
        "ts": None,
        "boot": "1",
        "seq": "0",
        "transport": 0,
        "qos": 1,
        "retain": False,
        "received_at": 1_700_000_000_000,
        "replay_of": None,
    }
    return pa.RecordBatch.from_pylist([row], schema=raw.SCHEMA)


def readings_example() -> pa.RecordBatch:
    row = {
        "verdict": 0,
        "device": "sensor-1",
        "publisher": "sensor-1",
        "channel": "climate",
        "metric": "temperature",
        "time": 1_700_000_000_000,
        "value": 21.5,
        "quality": 0,
        "received_at": 1_700_000_000_000,
        "boot": 1,
        "seq": 0,
        "raw_row": 0,
        "reading_index": 0,
    }
    dead = {
        "verdict": 2,
        "device": "sensor-1",
        "publisher": "sensor-1",
        "quality": 0,
        "received_at": 1_700_000_000_001,
        "raw_row": 1,
        "reading_index": 0,
        "reason": "json: unexpected end",
        "topic": "d/sensor-1/telemetry/climate",
        "payload": b"{",
    }
    event = {
        "verdict": 4,
        "device": "sensor-1",
        "publisher": "sensor-1",
        "metric": "event/offline",
        "time": 1_700_000_000_002,
        "quality": 0,
        "received_at": 1_700_000_000_002,
        "raw_row": 2,
        "reading_index": 0,
        "payload": b"{}",
    }
    return pa.RecordBatch.from_pylist([row, dead, event], schema=readings.SCHEMA)


_SERIES = {"device": "sensor-1", "channel": "climate", "metric": "temperature"}
_NOW = 1_700_000_000_000


def aggregates_example() -> pa.RecordBatch:
    row = _SERIES | {
        "scope": aggregates.DEVICE,
        "window_start": _NOW - _NOW % 60_000,
        "window_ms": 60_000,
        "part": 0,
        "count": 2,
        "sum": 43.0,
        "sum_squares": 925.0,
        "mean": 21.5,
        "m2": 0.5,
        "min": 21.0,
        "max": 22.0,
        "first": 21.0,
        "last": 22.0,
        "first_time": _NOW,
        "last_time": _NOW + 1,
        "sketch_buckets": [154, 157],
        "sketch_counts": [1, 1],
    }
    return pa.RecordBatch.from_pylist([row], schema=aggregates.SCHEMA)


def anomalies_example() -> pa.RecordBatch:
    row = _SERIES | {
        "incident": "00112233445566ff",
        "detector": "residual",
        "publisher": "sensor-1",
        "time": _NOW,
        "received_at": _NOW,
        "value": 38.2,
        "score": 0.97,
        "low": 20.1,
        "high": 22.4,
        "severity": 1,
        "explanation": "38.2; usual at this hour 20.1 to 22.4",
        "raw_row": 0,
        "reading_index": 0,
    }
    return pa.RecordBatch.from_pylist([row], schema=anomalies.SCHEMA)


def incidents_example() -> pa.RecordBatch:
    row = _SERIES | {
        "incident": "00112233445566ff",
        "state": "opened",
        "detector": "residual",
        "scope": aggregates.DEVICE,
        "publisher": "sensor-1",
        "time": _NOW,
        "opened_at": _NOW,
        "peak_at": _NOW,
        "last_at": _NOW,
        "peak_value": 38.2,
        "peak_score": 0.97,
        "low": 20.1,
        "high": 22.4,
        "points": 1,
        "devices": 1,
        "severity": 1,
        "explanation": "38.2; usual at this hour 20.1 to 22.4",
    }
    return pa.RecordBatch.from_pylist([row], schema=incidents.SCHEMA)


def presence_example() -> pa.RecordBatch:
    row = {
        "device": "sensor-1",
        "publisher": "sensor-1",
        "state": "offline",
        "reason": "silence",
        "since": _NOW,
        "time": _NOW + 30_000,
        "last_seen": _NOW,
        "expected_s": 10.0,
        "flaps": 0,
    }
    return pa.RecordBatch.from_pylist([row], schema=presence.SCHEMA)


EXAMPLES = {
    raw: raw_example,
    readings: readings_example,
    aggregates: aggregates_example,
    anomalies: anomalies_example,
    incidents: incidents_example,
    presence: presence_example,
}


if __name__ == "__main__":
    for module, example in EXAMPLES.items():
        (HERE / f"{module.NAME}-{module.VERSION}.hex").write_text(ipc.encode(example()).hex())
