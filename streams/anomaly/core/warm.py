"""A few readings through everything, so that the first real ones do not wait for imports."""

from typing import Any

import pyarrow as pa

from runtime.stage.contract import Frozen, Record
from schemas import ipc, readings
from schemas.headers import ReadingsHeaders, table
from schemas.vocabulary import Kind
from streams.anomaly.core.stage import AnomalyStage
from streams.anomaly.core.state import SETTINGS_KEY, State
from streams.anomaly.detectors import Detectors, check

_SETTINGS = (
    "rules:\n- {detectors: [limits: {high: 1}, rate: {max: 1/s}, residual, stuck: {readings: 2}, silence: {for: 1s}]}"
)


def warm() -> None:
    """Judge, write, snapshot and restore with a stage that is thrown away."""
    stage = AnomalyStage()
    state = stage.create(0)
    _settings(state, check(_SETTINGS, "warm"))
    for n, value in enumerate((0.0, 5.0, 5.0)):
        found = table(ReadingsHeaders(Kind.DATA, 0).encode())
        state.apply(Record(0, n, 0, n, Kind.DATA, found, ipc.encode(_batch(value, 1000 * n))))
    state.apply(Record(0, 3, 0, 3, Kind.TICK, {"time": b"100000"}, b""))
    frozen = state.freeze()
    stage.restore(0, Frozen(frozen.meta, {name: array.copy() for name, array in frozen.arrays.items()}), 1)


def _settings(state: State, settings: Detectors) -> None:
    headers = {"key": SETTINGS_KEY.encode(), "version": b"0/0"}
    state.apply(Record(0, 0, 0, 0, Kind.CONTROL, headers, settings.encode()))


def _batch(value: float, time_ms: int) -> Any:
    row = {
        "verdict": 0,
        "channel": "warm",
        "metric": "warm",
        "time": time_ms,
        "received_at": time_ms,
        "value": value,
        "quality": 0,
        "raw_row": 0,
        "reading_index": 0,
    }
    rows = [row | {"device": f"warm-{n}", "publisher": f"warm-{n}"} for n in range(60)]  # many at once, and a few twice
    return pa.RecordBatch.from_pylist(rows + rows[:20], schema=readings.SCHEMA)
