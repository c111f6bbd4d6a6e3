"""`python -m local.clickhouse`: give up files and network, start the engine, answer until SIGTERM, stop the engine."""

import asyncio
import logging
import os
import signal
import socket
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
from local.clickhouse.protocol import Protocol
from local.clickhouse.room import Room
from local.clickhouse.sandbox import Confinement, confine
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


async def _serve(
    settings: Settings, room: Room, known: dict[str, users.User], listening: socket.socket, confinement: Confinement
) -> None:
    no_readers = _no_readers(settings, confinement)
    began = time.monotonic()
    room.watch()
    engine = Engine(room, settings.workers, settings.readers)
    log.info("engine is up", extra={"version": engine.version, "after_s": round(time.monotonic() - began, 2)})
    config = uvicorn.Config(
        App(engine, known, no_readers, confinement.in_reach),
        http=Protocol,
        log_config=None,
        access_log=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=2,
    )
    await _Server(config).serve([listening])


def _no_readers(settings: Settings, found: Confinement) -> str | None:
    """Why users who only read are not served, or None."""
    if found.complete:
        log.info("the engine is confined to its data folder", extra={"landlock": True})
        return None
    why = (
        f"This kernel keeps {found.in_reach} in reach of the engine (it needs Landlock, Linux 5.19 or later), so users"
        " who only read are not served. MILLRACE_UNCONFINED_READERS=true serves them, and lets them read this user's"
        " files"
    )
    log.warning(why, extra={"served": settings.unconfined_readers})
    return None if settings.unconfined_readers else why


def main() -> None:
    settings = load_or_exit(Settings)
    logs.configure("clickhouse", level=settings.log_level)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    os.chdir(settings.folder)  # a `?`, `#` or `&` in its name would end a path of chdb's or of its configuration
    room = Room(HERE)
    room.check()
    known = users.load(HERE, settings.memory_bytes)
    users.write_configuration(HERE, settings.memory_bytes, room.keep_bytes)
    host, _, port = settings.listen.rpartition(":")
    listening = socket.create_server((host, int(port)), backlog=128)
    confinement = confine(HERE)
    asyncio.run(_serve(settings, room, known, listening, confinement))
    log.info("stopped")
    sys.stderr.flush()
    os._exit(0)  # the interpreter's own end can crash in the engine's destructors


if __name__ == "__main__":
    main()
