"""`python -m local.clickhouse`: start the engine, answer until SIGTERM, end what runs, stop the engine."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvicorn

from local.clickhouse import users
from local.clickhouse.app import App
from local.clickhouse.engine import Engine
from local.clickhouse.settings import Settings
from runtime import logs
from runtime.settings import load_or_exit

log = logging.getLogger("local.clickhouse")
HERE: Final = Path()
"""The folder of the data."""


class _Server(uvicorn.Server):
    """uvicorn raises the signal again after its own drain, which would hide that we ended well."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield


async def _serve(settings: Settings) -> None:
    began = time.monotonic()
    engine = Engine(HERE, settings.workers, settings.memory_bytes)
    log.info("engine is up", extra={"version": engine.version, "after_s": round(time.monotonic() - began, 2)})
    host, _, port = settings.listen.rpartition(":")
    config = uvicorn.Config(
        App(engine, users.load(HERE)),
        host=host,
        port=int(port),
        log_config=None,
        access_log=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=2,
    )
    await _Server(config).serve()


def main() -> None:
    settings = load_or_exit(Settings)
    logs.configure("clickhouse", level=settings.log_level)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    os.chdir(settings.folder)  # a `?`, `#` or `&` in its name would end a path of chdb's or of its configuration
    asyncio.run(_serve(settings))
    log.info("stopped")
    sys.stderr.flush()
    os._exit(0)  # the interpreter's own end can crash in the engine's destructors


if __name__ == "__main__":
    main()
