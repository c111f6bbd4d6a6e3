"""`millrace backtest` over a real ClickHouse: the stage's own code finds what is there, and says what it costs."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from operations.history import Wanted, chunks, minutes, read
from runtime.clickhouse.client import ClickHouse
from runtime.kafka import clients, topics
from runtime.settings import KafkaSettings
from schemas.control import Device, device_key
from schemas.topics import CONTROL
from sinks.settings import MigrationSettings
from tests.anomaly.conftest import Call
from tests.support.service import until

START_MS = 1_780_000_020_000
DEVICES = 8
MINUTES = 600
DETECTORS = """\
rules:
- {role: motor, detectors: [limits: {high: 100}]}
- detectors: [residual: {sensitivity: 0.3}, silence]
"""
HOT = 500
"""Minute of a jump of d-3."""


@pytest.fixture(scope="module")
def history(database: MigrationSettings) -> ClickHouse:
    """Ten hours of eight devices in two partitions: one jumps, one falls silent; stored in no order."""
    r = np.random.default_rng(4)
    minute, device = np.repeat(np.arange(MINUTES), DEVICES), np.tile(np.arange(DEVICES), MINUTES)
    value = 20 + r.normal(size=len(minute)) + device
    value[(device == 3) & (minute == HOT)] = 500.0
    spoken = ~((device == 5) & (minute > 400))
    rows = _rows(minute[spoken], device[spoken], value[spoken])
    db = ClickHouse(database)
    for at, part in enumerate(np.array_split(np.random.default_rng(1).permutation(rows.num_rows), 3)):
        db.insert("readings", rows.take(pa.array(part)), f"history/{at}")
    return db


def _rows(minute: Any, device: Any, value: Any) -> pa.Table:
    n = len(minute)
    names = [f"d-{d}" for d in device.tolist()]
    at = pa.array(START_MS + minute * 60_000 + device * 1000, pa.timestamp("ms", "UTC"))
    columns = {
        "device": names,
        "channel": ["climate"] * n,
        "metric": ["temperature"] * n,
        "time": at,
        "value": value,
        "text": pa.nulls(n, pa.string()),
        "quality": np.zeros(n, np.uint8),
        "received_at": pa.array(np.full(n, START_MS + 10**9), pa.timestamp("ms", "UTC")),
        "boot": pa.nulls(n, pa.int64()),
        "seq": pa.nulls(n, pa.int64()),
        "raw_epoch": np.zeros(n, np.uint16),
        "raw_partition": (device % 2).astype(np.uint16),
        "raw_offset": minute.astype(np.uint64),
        "raw_row": device.astype(np.uint32),
        "reading_index": np.zeros(n, np.uint32),
        "publisher": names,
        "replay_of": pa.nulls(n, pa.string()),
    }
    return pa.table(columns)


def test_history_comes_in_order_in_chunks_that_join(history: ClickHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.history.CHUNK_ROWS", 700)
    wanted = Wanted(START_MS, START_MS + 10**9)
    found = list(chunks(history, wanted))
    assert len(found) > 4 and all(one[1] <= other[0] for one, other in pairwise(found))
    rows, last = 0, (0, -1)
    for begin, end in found:
        for minute_ms, partition, batch in minutes(read(history, Wanted(begin, end))):
            assert (minute_ms, partition) > last and set(batch.column("publisher").to_pylist()) <= {
                f"d-{d}" for d in range(partition, DEVICES, 2)
            }
            last, rows = (minute_ms, partition), rows + batch.num_rows
            times = batch.column("time").cast(pa.int64()).to_pylist()
            assert times == sorted(times) and minute_ms - 60_000 <= times[0] <= times[-1] < minute_ms
    assert rows == MINUTES * DEVICES - (MINUTES - 401)


def test_the_command_shows_what_would_have_been_raised_and_what_it_costs(
    call: Call, history: ClickHouse, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    settings = tmp_path / "detectors.yaml"
    settings.write_text(DETECTORS)
    _register(kafka_settings, Device("d-3", "motor"))
    found = orjson.loads(call("backtest", str(settings), "--json"))
    assert found["readings"] == MINUTES * DEVICES - (MINUTES - 401)
    assert (found["series"], found["devices"]) == (DEVICES, DEVICES)
    assert 0 < found["us_a_reading"] < 10_000 and found["bytes_a_series"] > 100
    incidents = {(row["device"], row["detector"]): row for row in found["incidents"]}
    assert set(incidents) == {("d-3", "limits"), ("d-5", "silence")}, "d-3 is a motor: the registry says so"
    assert incidents["d-3", "limits"]["explanation"] == "500; above the limit 100"
    assert incidents["d-3", "limits"]["state"] == "closed" and incidents["d-5", "silence"]["state"] == "opened"
    text = call("backtest", str(settings))
    for part in (
        "4,601 readings of 8 series",
        "us CPU a reading",
        "bytes a series",
        "incidents: 2",
        "500; above the limit",
    ):
        assert part in text
    one = orjson.loads(call("backtest", str(settings), "--device", "d-5", "--json"))
    assert (one["devices"], [row["device"] for row in one["incidents"]]) == (1, ["d-5"])
    assert orjson.loads(call("backtest", str(settings), "--until", "2026-05-28T22:00:00Z", "--json"))["readings"] < 4000


def _register(settings: KafkaSettings, device: Device) -> None:
    producer = clients.producer(settings)
    producer.produce(CONTROL, key=device_key(device.id), value=device.encode())
    assert producer.flush(20) == 0
    until(lambda: device_key(device.id) in topics.read_control(settings), 20, "the registry")


def test_a_file_with_mistakes_and_a_question_without_readings_say_so(
    call: Call, history: ClickHouse, tmp_path: Path
) -> None:
    settings = tmp_path / "detectors.yaml"
    settings.write_text("rules:\n- detectors: [rate]\n")
    assert "'max' is missing" in call("backtest", str(settings), exit_code=1)
    settings.write_text("rules:\n- detectors: [stuck]\n")
    call("backtest", str(settings), "--device", "nobody", exit_code=1)
