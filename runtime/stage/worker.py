"""The process of a stage: `main` is all that a service calls."""

import argparse
import asyncio
import hashlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from runtime import logs
from runtime.errors import FatalError, RefusedError, RetryableError
from runtime.kafka import clients, topics
from runtime.kafka.skips import read_skips
from runtime.lifecycle import die, guard, run
from runtime.probes import Probes
from runtime.settings import load_or_exit
from runtime.stage import faust_app, identity, store
from runtime.stage.admission import Options
from runtime.stage.contract import Stage
from runtime.stage.engine import Engine
from runtime.stage.orders import Orders
from runtime.stage.outbox import KafkaOutbox
from runtime.stage.settings import StageSettings
from runtime.tasks import cancel, in_thread
from schemas import topics as names
from schemas.control import TopicFacts
from schemas.topics import state_topic

log = logging.getLogger(__name__)
SILENCE_S: Final = 60.0
"""Seconds without a record applied, though there are some, after which a worker is not live: one record takes
milliseconds, the copy of a large state or a rescue some seconds."""
S = TypeVar("S", bound=StageSettings)
T = TypeVar("T")


def main(make_stage: Callable[[S], Stage], settings_class: type[S], argv: Sequence[str] | None = None) -> None:
    """Run a stage until SIGTERM. `make_stage` is called once, before the worker joins its group."""
    options = _options(argv)
    settings = load_or_exit(settings_class)
    stage = make_stage(settings)
    logs.configure(stage.name, settings.log_format, settings.log_level)
    if settings.log_level != "debug":
        for chatty in ("faust", "mode", "aiokafka", faust_app.__name__):
            logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        asyncio.run(_run(stage, settings, options))
    except FatalError as error:
        die(error, "start")


def _options(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        description="A worker of a stage. Settings come from the environment (MILLRACE_…); the options are for the day"
        " on which a worker refuses to start: it names the one to use, once.",
    )
    parser.add_argument(
        "--drain",
        action="store_true",
        help="apply until the snapshots cover every output written, then stop: before a new logic version starts",
    )
    parser.add_argument(
        "--from-oldest",
        action="store_true",
        help="ignore the snapshots: start with an empty state at the oldest record kept",
    )
    parser.add_argument(
        "--skip-lost",
        action="store_true",
        help="keep the state and continue at the oldest record kept, although records before it were never applied",
    )
    return Options(**vars(parser.parse_args(argv)))


async def _run(stage: Stage, settings: StageSettings, options: Options) -> None:
    probes = Probes(settings.http_bind)
    worker = Worker(stage, settings, options, probes)
    probes.checks["partitions"] = worker.wrong
    await run([worker], probes, grace_s=60.0)


class Worker:
    """A stage at work: the engine and Faust around it. A part of runtime.lifecycle."""

    def __init__(self, stage: Stage, settings: StageSettings, options: Options, probes: Probes) -> None:
        self.stage, self.settings, self.options = stage, settings, options
        self.engine: Engine | None = None
        self._app: faust_app.App | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._alone: socket.socket | None = None
        self._beat = probes.worker("records", SILENCE_S)

    def wrong(self) -> str | None:
        return self.engine.wrong() if self.engine else "topics do not exist yet: waiting for `millrace init`"

    async def start(self) -> None:
        """Returns at once: ready is when partitions are loaded, which may wait for Kafka for long."""
        if self.settings.static_membership:
            self._alone = claim(self.stage.name, self.settings)
        self._tasks.append(guard(self._begin(), "start"))

    async def _begin(self) -> None:
        facts = await self._facts()
        source = facts[self.stage.source]
        engine = Engine(self.stage, source, facts[names.RAW].epoch, self.options)
        app = faust_app.build(self.settings, self.stage.name, self.stage.source, engine)
        admin = clients.admin(self.settings)

        def same_topics() -> None:
            identity.same_topics(admin, self.stage, facts)

        await self._kafka_answers(same_topics)
        engine.connect(
            KafkaOutbox(self.settings),
            lambda: store.Reader(self.settings),
            same_topics,
            lambda: app.consumer.commit_covered(),
            Orders(
                self.stage,
                source.epoch,
                lambda: read_skips(self.settings),
                facts[state_topic(self.stage.name)].topic_id,
            ),
        )
        app.consume(engine.handle)
        self.engine, self._app = engine, app
        self._tasks += [
            guard(self._snapshots(engine), "snapshot"),
            guard(self._observe(engine, app), "group"),
            guard(self._drained(engine), "drain"),
        ]
        await app.start()

    async def _facts(self) -> dict[str, TopicFacts]:
        """Identities of all topics of the stage. Waits for Kafka and for `millrace init`."""
        wanted = {names.RAW, self.stage.source, *self.stage.outputs, state_topic(self.stage.name)}
        return await self._kafka_answers(partial(topics.facts, self.settings, *wanted))

    async def _kafka_answers(self, ask: Callable[[], T]) -> T:
        """What a blocking call returns, tried again for as long as Kafka is away."""
        while True:
            try:
                return await in_thread(ask)
            except RetryableError as error:
                log.warning("%s; trying again", error)
                await asyncio.sleep(1.0)

    async def _snapshots(self, engine: Engine) -> None:
        wrote_bytes = 0
        while True:
            await asyncio.sleep(pause_s(self.settings, wrote_bytes))
            if engine.loaded:
                try:
                    wrote_bytes = await engine.snapshot()
                except RetryableError as error:
                    log.warning("no snapshot now: %s", error)

    async def _observe(self, engine: Engine, app: faust_app.App) -> None:
        """Set gauges, and beat while records are applied or there are none to apply."""
        applied = -1
        while True:
            await asyncio.sleep(1.0)
            if not engine.loaded:
                self._beat()  # waits for the group, which readiness shows
                continue
            await app.consumer.check()
            ends = app.ends(engine.positions())
            engine.observe(ends)
            if engine.applied != applied or not engine.behind(ends):
                applied = engine.applied
                self._beat()

    async def _drained(self, engine: Engine) -> None:
        await engine.drained.wait()
        log.info("drained: the snapshots will cover every output written")
        os.kill(os.getpid(), signal.SIGTERM)

    async def stop(self) -> None:
        """Finish the record in hand, snapshot, commit, leave. A snapshot under way is broken off first."""
        await cancel(*self._tasks)
        if self.engine is not None and self._app is not None:
            await self.engine.hand_over()
            await self._app.stop()


def pause_s(settings: StageSettings, wrote_bytes: int) -> float:
    """Until the next round of snapshots, when the last one wrote so much: large states are stored less often."""
    return max(settings.snapshot_interval_s, wrote_bytes / settings.snapshot_bytes_per_s)


def claim(stage: str, settings: StageSettings) -> socket.socket | None:
    """Make sure no other process of this machine is the same instance: two would evict each other from the group.

    An abstract socket (Linux) goes when its process goes. Elsewhere: None, unchecked.
    """
    if sys.platform != "linux":
        return None
    server = hashlib.sha256(settings.kafka_bootstrap.encode()).hexdigest()[:16]
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0millrace/{server}/{stage}/{settings.instance}")
    except OSError:
        lock.close()
        raise RefusedError(
            f"another process is instance {settings.instance!r} of {stage}: give each its own MILLRACE_INSTANCE"
        ) from None
    return lock
