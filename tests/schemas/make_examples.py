"""Writes one stored example of the newest version of each Arrow schema: run once when a version is added.

python -m tests.schemas.make_examples
"""

from pathlib import Path

import pyarrow as pa

from schemas import ipc, raw, readings

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
    return pa.RecordBatch.from_pylist([row, dead], schema=readings.SCHEMA)


if __name__ == "__main__":
    (HERE / f"telemetry.raw-{raw.VERSION}.hex").write_text(ipc.encode(raw_example()).hex())
    (HERE / f"telemetry.readings-{readings.VERSION}.hex").write_text(ipc.encode(readings_example()).hex())
