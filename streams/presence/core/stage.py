"""The stage that the frame runs: telemetry.readings in, telemetry.presence out."""

from runtime.stage.contract import Frozen
from runtime.stage.readings import TakesReadings
from schemas.topics import PRESENCE, READINGS
from streams.presence.core.state import State


class PresenceStage(TakesReadings):
    """Watches who is there. Partitions share nothing."""

    name = "presence"
    logic_version = 1
    reads: tuple[int, ...] = ()
    source = READINGS
    outputs = (PRESENCE,)

    def create(self, partition: int) -> State:
        return State()

    def restore(self, partition: int, stored: Frozen, version: int) -> State:
        return State.restored(stored)
