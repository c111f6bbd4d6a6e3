"""Builds the stage: the core, with its metrics, warm."""

import time

from runtime.stage.contract import Record
from streams.anomaly import metrics
from streams.anomaly.core.stage import AnomalyStage
from streams.anomaly.core.state import State
from streams.anomaly.core.warm import warm
from streams.anomaly.settings import Settings


class Stage(AnomalyStage):
    """The anomaly stage as the frame runs it. The clock is read for metrics only, never by the core."""

    def observe(self, state: State, record: Record) -> None:
        metrics.observe(state.seen, time.time())


def make_stage(settings: Settings) -> Stage:
    """Called once, before the worker joins its group: what is slow the first time happens here."""
    warm()
    return Stage()
