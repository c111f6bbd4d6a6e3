"""The stage that the frame runs: telemetry.readings in, telemetry.aggregates out."""

from runtime.stage.contract import Frozen
from runtime.stage.readings import TakesReadings
from schemas.topics import AGGREGATES, READINGS
from streams.aggregate.core.state import State


class AggregateStage(TakesReadings):
    """Folds readings into windows."""

    name = "aggregate"
    logic_version = 2
    """2: moments about the first value of a window; 1: sums of squares about zero."""
    reads = (1,)
    source = READINGS
    outputs = (AGGREGATES,)

    def create(self, partition: int) -> State:
        return State()

    def restore(self, partition: int, stored: Frozen, version: int) -> State:
        return State.restored(stored, version)
