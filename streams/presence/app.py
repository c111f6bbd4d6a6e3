"""Builds the stage: the core, with its metrics, warm."""

from collections.abc import Mapping, Sequence

from runtime.stage.contract import Frozen, Output, Record
from runtime.stage.readings import TakesReadings
from schemas.vocabulary import Kind
from streams.presence import metrics
from streams.presence.core.stage import PresenceStage
from streams.presence.core.state import State
from streams.presence.core.warm import warm
from streams.presence.settings import Settings


class Metered:
    """A state whose changes are counted."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._refused = state.refusals

    def apply(self, record: Record) -> Sequence[Output]:
        found = self.state.apply(record)
        if self.state.told is not None and not record.trial:
            metrics.observe(self.state.told)
        if record.kind is Kind.CONTROL and not record.trial and self.state.refusals != self._refused:
            metrics.REFUSED.inc(self.state.refusals - self._refused)
            self._refused = self.state.refusals
        return found

    def freeze(self) -> Frozen:
        return self.state.freeze()

    def sizes(self) -> Mapping[str, int]:
        return self.state.sizes()


class Stage(TakesReadings):
    """The presence stage as the frame runs it."""

    name, logic_version = PresenceStage.name, PresenceStage.logic_version
    reads, source, outputs = PresenceStage.reads, PresenceStage.source, PresenceStage.outputs

    def __init__(self) -> None:
        self.core = PresenceStage()

    def create(self, partition: int) -> Metered:
        return Metered(self.core.create(partition))

    def restore(self, partition: int, stored: Frozen, version: int) -> Metered:
        return Metered(self.core.restore(partition, stored, version))


def make_stage(settings: Settings) -> Stage:
    """Called once, before the worker joins its group: what is slow the first time happens here."""
    warm()
    return Stage()
