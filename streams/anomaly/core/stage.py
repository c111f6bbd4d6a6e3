"""The stage that the frame runs: telemetry.readings in, telemetry.anomalies and telemetry.incidents out."""

from runtime.stage.contract import Frozen
from runtime.stage.readings import TakesReadings
from schemas.topics import ANOMALIES, INCIDENTS, READINGS
from streams.anomaly.core.state import State


class AnomalyStage(TakesReadings):
    """Watches every series of its partitions."""

    name = "anomaly"
    logic_version = 1
    reads: tuple[int, ...] = ()
    source = READINGS
    outputs = (ANOMALIES, INCIDENTS)

    def create(self, partition: int) -> State:
        return State()

    def restore(self, partition: int, stored: Frozen, version: int) -> State:
        return State.restored(stored)
