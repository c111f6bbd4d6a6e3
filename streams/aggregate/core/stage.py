"""The stage that the frame runs: telemetry.readings in, telemetry.aggregates out."""

from typing import Any

from runtime.columns.pack import pack, unpack
from schemas.topics import AGGREGATES, READINGS
from streams.aggregate.core.state import Frozen, State


class AggregateStage:
    """Folds readings into windows."""

    name = "aggregate"
    logic_version = 1
    source = READINGS
    outputs = (AGGREGATES,)

    def create(self, partition: int) -> State:
        return State()

    def encode(self, frozen: Any) -> bytes:
        assert isinstance(frozen, Frozen)
        return pack(frozen.meta, frozen.arrays | frozen.windows.arrays())

    def restore(self, partition: int, blob: bytes) -> State:
        return State.restored(*unpack(blob))
