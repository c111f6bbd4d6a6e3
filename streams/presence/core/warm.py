"""One record through everything, so that the first real one does not wait for imports (pyarrow's take 0.5 s)."""

import pyarrow as pa

from runtime.stage.contract import Frozen, Record
from schemas import ipc, readings
from schemas.headers import Counts, ReadingsHeaders
from schemas.vocabulary import Kind, Verdict
from streams.presence.core.stage import PresenceStage


def warm() -> None:
    """Apply records of one device to a state that is thrown away."""
    stage = PresenceStage()
    state = stage.create(0)
    row = {"device": "warm", "publisher": "warm", "verdict": int(Verdict.EVENT), "metric": "connected", "quality": 0}
    batch = pa.RecordBatch.from_pylist(
        [row | {"received_at": 0, "raw_row": 0, "reading_index": 0}], schema=readings.SCHEMA
    )
    found = dict(ReadingsHeaders(Kind.DATA, 0, Counts(events=1)).encode())
    state.apply(Record(0, 0, 0, 0, Kind.DATA, found, ipc.encode(batch)))
    frozen = state.freeze()
    stage.restore(0, Frozen(frozen.meta, {name: array.copy() for name, array in frozen.arrays.items()}), 1)
