"""A check that repeats in a thread of its own, so that an engine that hangs does not delay the others."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from monitoring.watch import metrics

log = logging.getLogger(__name__)

RETRY_S: Final = 10.0
"""Longest wait after a look that failed: what is looked at once an hour may have been just about to start."""


@dataclass(frozen=True, slots=True)
class Look:
    """`look` sets gauges, within a bounded time; what it raises means that there was nothing to see."""

    at: str
    every_s: float
    look: Callable[[], None]


class Watcher:
    """Part of the service."""

    def __init__(self, looks: list[Look]) -> None:
        self._looks = looks
        self._stop = threading.Event()
        self._blind: dict[str, str] = {}

    async def start(self) -> None:
        for look in self._looks:
            threading.Thread(target=self._run, args=(look,), name=look.at, daemon=True).start()

    async def stop(self) -> None:
        self._stop.set()

    def _run(self, look: Look) -> None:
        while not self._stop.is_set():
            seen = self.once(look)
            self._stop.wait(look.every_s if seen else min(look.every_s, RETRY_S))

    def once(self, look: Look) -> bool:
        """Check now; True if that succeeded. Logs only changes of the outcome."""
        try:
            look.look()
        except Exception as error:  # whatever failed: the engine could not be checked, and that is reported
            metrics.UP.labels(look.at).set(0)
            self._report(look.at, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
            return False
        metrics.UP.labels(look.at).set(1)
        metrics.LOOKED.labels(look.at).set_to_current_time()
        self._report(look.at, "")
        return True

    def _report(self, at: str, wrong: str) -> None:
        if wrong and not self._blind.get(at):
            log.warning("%s cannot be checked", at, extra={"error": wrong})
        elif not wrong and self._blind.get(at):
            log.info("%s can be checked again", at)
        self._blind[at] = wrong
