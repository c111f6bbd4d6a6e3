"""Ordered start, wait, drain in reverse. A service's main is: build parts, `run(parts)`.

A part has `async start()` and `async stop()`. Parts start in order; when a signal comes, those that started stop in
reverse, each within `grace_s`. An error of a part, or a stop that takes longer, ends the process at once (exit code 70,
or that of the error): nothing else is stopped, and nothing half-applied lives on.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn, Protocol

from runtime.errors import EXIT_FATAL, FatalError
from runtime.probes import Probes

log = logging.getLogger(__name__)


class Part(Protocol):
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


def die(error: BaseException, where: str) -> NoReturn:
    """End the process now, with one clear line; no drain, no commit."""
    code = error.exit_code if isinstance(error, FatalError) else EXIT_FATAL
    log.critical("%s: %s", where, error, exc_info=None if isinstance(error, FatalError) else error)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def guard(coroutine: Awaitable[None], where: str) -> "asyncio.Task[None]":
    """Run a background task whose failure ends the process."""

    async def guarded() -> None:
        try:
            await coroutine
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            die(error, where)

    return asyncio.ensure_future(guarded())


async def run(parts: Sequence[Part], probes: Probes, grace_s: float = 20.0) -> None:
    """Start all parts, wait for SIGTERM or SIGINT, stop them in reverse."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    probes.start()
    running: list[Part] = []
    try:
        for part in parts:
            await part.start()
            running.append(part)
        probes.started()
        log.info("ready", extra={"probes_port": probes.port})
        await _wait(stopped, probes.beat)
    except Exception as error:
        die(error, "start")
    log.info("draining")
    for part in reversed(running):
        await _stop(part, grace_s)
    log.info("stopped")


async def _stop(part: Part, grace_s: float) -> None:
    """A stop that hangs is not cancelled: that would wait for what hangs."""
    where = f"stop of {type(part).__name__}"
    stopping = asyncio.ensure_future(part.stop())
    await asyncio.wait([stopping], timeout=grace_s)
    if not stopping.done():
        die(TimeoutError(f"not done within {grace_s:g} s"), where)
    if (error := stopping.exception()) is not None:
        die(error, where)


async def _wait(stopped: asyncio.Event, beat: Callable[[], None]) -> None:
    while not stopped.is_set():
        beat()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), 1.0)
