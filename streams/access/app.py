"""Builds the stage: the core, with its metrics, warm."""

import time

from runtime.stage.contract import Record
from schemas.vocabulary import Kind
from streams.access import metrics
from streams.access.core.stage import AccessStage
from streams.access.core.state import State
from streams.access.core.warm import warm
from streams.access.settings import Settings


class Stage(AccessStage):
    """The access stage as the frame runs it. The clock is read for metrics only, never by the core."""

    def observe(self, state: State, record: Record) -> None:
        if record.kind is Kind.DATA:
            metrics.observe(state.seen, time.time())


def make_stage(settings: Settings) -> Stage:
    """Called once, before the worker joins its group: what is slow the first time happens here."""
    warm()
    return Stage()
