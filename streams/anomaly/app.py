"""Builds the stage: the core, with its metrics, warm."""

import time
from collections.abc import Mapping, Sequence

from runtime.stage.contract import Frozen, Output, Record
from runtime.stage.readings import TakesReadings
from streams.anomaly import metrics
from streams.anomaly.core.stage import AnomalyStage
from streams.anomaly.core.state import State
from streams.anomaly.core.warm import warm
from streams.anomaly.settings import Settings


class Metered:
    """A state whose records are counted. The clock is read for metrics only, never by the core."""

    def __init__(self, state: State) -> None:
        self.state = state

    def apply(self, record: Record) -> Sequence[Output]:
        found = self.state.apply(record)
        if not record.trial:
            metrics.observe(self.state.seen, time.time())
        return found

    def freeze(self) -> Frozen:
        return self.state.freeze()

    def sizes(self) -> Mapping[str, int]:
        return self.state.sizes()


class Stage(TakesReadings):
    """The anomaly stage as the frame runs it."""

    name, logic_version = AnomalyStage.name, AnomalyStage.logic_version
    reads, source, outputs = AnomalyStage.reads, AnomalyStage.source, AnomalyStage.outputs

    def __init__(self) -> None:
        self.core = AnomalyStage()

    def create(self, partition: int) -> Metered:
        return Metered(self.core.create(partition))

    def restore(self, partition: int, stored: Frozen, version: int) -> Metered:
        return Metered(self.core.restore(partition, stored, version))


def make_stage(settings: Settings) -> Stage:
    """Called once, before the worker joins its group: what is slow the first time happens here."""
    warm()
    return Stage()
