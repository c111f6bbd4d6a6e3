"""Builds the sink: settings in, service out."""

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

from runtime.errors import RetryableError
from runtime.kafka.topics import facts
from runtime.lifecycle import guard, run
from runtime.probes import Probes
from runtime.tasks import cancel, in_thread
from sinks import metrics
from sinks.adapters.tables import Tables
from sinks.core.logs import LOGS
from sinks.engine import Engine
from sinks.migrate import check_migrated, migrate
from sinks.settings import SinkSettings
from sinks.writer import Writer

log = logging.getLogger(__name__)
T = TypeVar("T")


class Sink:
    """Waits for Kafka's topics and for ClickHouse, brings the tables to their newest form, then runs the engine."""

    def __init__(self, settings: SinkSettings, probes: Probes) -> None:
        self.settings = settings
        self.waiting: str | None = None
        self.engine: Engine | None = None
        self._beginning: asyncio.Task[None] | None = None
        probes.checks["engine"] = self._not_ready

    async def start(self) -> None:
        """Returns at once, so that a signal is heard while Kafka or ClickHouse is waited for."""
        self._beginning = guard(self._begin(), "start")

    async def _begin(self) -> None:
        settings = self.settings
        found = await self._patiently(lambda: facts(settings, *LOGS))
        await self._patiently(lambda: migrate(settings) if settings.sink_migrates else check_migrated(settings))
        tables = Tables(settings)
        writer = Writer(tables, metrics.delay_histograms(), settings.sink_writers)
        self.engine = Engine(settings, found, tables, writer)
        await self.engine.start()

    async def stop(self) -> None:
        await cancel(self._beginning)
        if self.engine is not None:
            await self.engine.stop()

    def _not_ready(self) -> str | None:
        return self.waiting or (self.engine.not_ready() if self.engine else "starting")

    async def _patiently(self, ask: Callable[[], T]) -> T:
        wait_s = 0.2
        while True:
            try:
                answer = await in_thread(ask)
                self.waiting = None
                return answer
            except RetryableError as error:
                self.waiting = str(error)
                log.warning("waiting", extra={"error": self.waiting})
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, 5.0)


async def serve(settings: SinkSettings) -> None:
    probes = Probes(settings.http_bind)
    await run([Sink(settings, probes)], probes)
