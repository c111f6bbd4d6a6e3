"""Builds the sink: settings in, service out."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from runtime.kafka.skips import read_skips
from runtime.kafka.topics import facts
from runtime.lifecycle import guard, run
from runtime.probes import Probes
from runtime.retry import retry_async
from runtime.tasks import cancel, in_thread
from sinks import metrics
from sinks.adapters import kafka
from sinks.adapters.tables import Tables
from sinks.core.logs import LOGS
from sinks.engine import Engine, silence_s
from sinks.migrate import check_migrated, migrate
from sinks.orders import Orders
from sinks.settings import SinkSettings
from sinks.writer import Writer

T = TypeVar("T")


class Sink:
    """Waits for Kafka's topics and for ClickHouse, brings the tables to their newest form, then runs the engine."""

    def __init__(self, settings: SinkSettings, probes: Probes) -> None:
        self.settings = settings
        self.waiting: str | None = None
        self.engine: Engine | None = None
        self._beginning: asyncio.Task[None] | None = None
        probes.checks["engine"] = self._not_ready
        self._beat = probes.worker("engine", silence_s(settings))

    async def start(self) -> None:
        """Returns at once, so that a signal is heard while Kafka or ClickHouse is waited for."""
        self._beginning = guard(self._begin(), "start")

    async def _begin(self) -> None:
        settings = self.settings
        found = await self._patiently(lambda: facts(settings, *LOGS), "topics")
        await self._patiently(lambda: kafka.check_topics(settings, found, kafka.SPREAD_S), "topics")
        change = migrate if settings.sink_migrates else check_migrated
        await self._patiently(lambda: change(settings), "tables")
        tables = Tables(settings)
        writer = Writer(tables, metrics.delay_histograms(), settings.sink_writers)
        orders = Orders(lambda: read_skips(settings))
        self.engine = Engine(settings, found, tables, writer, orders, self._beat)
        await self.engine.start()

    async def stop(self) -> None:
        await cancel(self._beginning)
        if self.engine is not None:
            await self.engine.stop()

    def _not_ready(self) -> str | None:
        return self.waiting or (self.engine.not_ready() if self.engine else "starting")

    async def _patiently(self, ask: Callable[[], T], what: str) -> T:
        return await retry_async(lambda: in_thread(ask), what, notify=self._notice)

    def _notice(self, trouble: str | None) -> None:
        self.waiting = trouble


async def serve(settings: SinkSettings) -> None:
    probes = Probes(settings.http_bind)
    await run([Sink(settings, probes)], probes)
