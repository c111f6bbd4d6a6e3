"""Builds the stage: the core, with its metrics, warm."""

import time

from runtime.stage.contract import Record
from streams.aggregate import metrics
from streams.aggregate.core.stage import AggregateStage
from streams.aggregate.core.state import State
from streams.aggregate.core.warm import warm
from streams.aggregate.settings import Settings


class Stage(AggregateStage):
    """The aggregate stage as the frame runs it. The clock is read for metrics only, never by the core."""

    def observe(self, state: State, record: Record) -> None:
        metrics.observe(record.kind, state.seen, state.time_ms, time.time())


def make_stage(settings: Settings) -> Stage:
    """Called once, before the worker joins its group: what is slow the first time happens here."""
    warm()
    return Stage()
