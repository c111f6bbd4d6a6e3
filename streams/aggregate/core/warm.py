"""A few records through everything, so that the first real ones do not wait for imports (pyarrow's take 0.5 s)."""

import pyarrow as pa

from runtime.stage.contract import Record
from schemas import ipc, readings
from schemas.headers import ReadingsHeaders
from schemas.vocabulary import Kind
from streams.aggregate.core.stage import AggregateStage


def warm() -> None:
    """Fold, write, snapshot and restore with a stage that is thrown away."""
    stage = AggregateStage()
    state = stage.create(0)
    row = {"verdict": 0, "device": "warm", "publisher": "warm", "channel": "warm", "metric": "warm", "time": 0}
    row |= {"value": 1.0, "quality": 0, "received_at": 0, "raw_row": 0, "reading_index": 0}
    batch = pa.RecordBatch.from_pylist([row, row | {"value": None, "text": "on"}], schema=readings.SCHEMA)
    headers = {kind: dict(ReadingsHeaders(kind, 1 << 40).encode()) for kind in Kind}
    state.apply(Record(0, 0, 0, 0, Kind.DATA, headers[Kind.DATA], ipc.encode(batch)))
    state.apply(Record(0, 1, 0, 1, Kind.TICK, headers[Kind.TICK], b""))
    stage.restore(0, state.freeze(), stage.logic_version)
