"""Builds the stage: the core, with its metrics, warm."""

from runtime.stage.contract import Record
from streams.presence import metrics
from streams.presence.core.stage import PresenceStage
from streams.presence.core.state import State
from streams.presence.core.warm import warm
from streams.presence.settings import Settings


class Stage(PresenceStage):
    """The presence stage as the frame runs it."""

    def observe(self, state: State, record: Record) -> None:
        metrics.observe(state.changes, state.newly_refused)


def make_stage(settings: Settings) -> Stage:
    """Called once, before the worker joins its group: what is slow the first time happens here."""
    warm()
    return Stage()
