"""Follows platform.control from its beginning, so that a token that ends is refused within a second."""

import asyncio
import logging
import threading
import time
from typing import Final

from confluent_kafka import Message

from bridge.http import metrics
from bridge.http.core.credentials import Credentials
from bridge.http.settings import HttpSettings
from runtime.errors import RetryableError
from runtime.kafka.applied import Publisher
from runtime.kafka.log import OLDEST, LogReader
from runtime.lifecycle import die
from runtime.tasks import in_thread
from schemas.topics import CONTROL

log = logging.getLogger(__name__)

_POLL_S: Final = 0.1
_WAIT_S: Final = 0.02
_RETRY_S: Final = 1.0


class Follower:
    """Applies the registry's records to `credentials`, in a thread of its own, and publishes how far it is. Started
    means: all of it was read."""

    def __init__(self, settings: HttpSettings, credentials: Credentials) -> None:
        self._settings = settings
        self._credentials = credentials
        self._applied = Publisher(settings, f"bridge-http.{settings.instance}")
        self._position = OLDEST
        self._caught_up = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="registry", daemon=True)

    async def start(self) -> None:
        self._thread.start()
        while not self._caught_up.is_set():  # noqa: ASYNC110 (the thread has no event loop)
            await asyncio.sleep(_WAIT_S)

    async def stop(self) -> None:
        self._stopping.set()
        await in_thread(self._thread.join)
        if self._caught_up.is_set():
            await in_thread(self._applied.stop)

    def wrong(self) -> str | None:
        """For readiness."""
        return None if self._caught_up.is_set() else "the registry is not read yet"

    def is_current(self) -> bool:
        """Whether every change is applied whose command has returned."""
        return self._applied.leased

    def _run(self) -> None:
        try:
            with LogReader(self._settings, more={"queued.max.messages.kbytes": 16 << 10}) as reader:
                while not self._stopping.is_set():
                    try:
                        self._follow(reader)
                    except RetryableError as error:
                        log.warning("registry: %s", error)
                        time.sleep(_RETRY_S)
        except Exception as error:
            die(error, "registry")

    def _follow(self, reader: LogReader) -> None:
        if not self._caught_up.is_set():
            end = reader.bounds(CONTROL, 0)[1]
            for batch in reader.read(CONTROL, {0: (self._position, end)}):
                self._apply(batch)
            self._position = end
            self._applied.applied(end)
            self._applied.start()
            metrics.DEVICES.set(len(self._credentials))
            self._caught_up.set()
        for batch in reader.follow(CONTROL, {0: self._position}, _POLL_S):
            self._apply(batch)
            self._applied.applied(self._position)
            if self._stopping.is_set():
                return

    def _apply(self, batch: list[Message]) -> None:
        for message in batch:
            broken = self._credentials.apply(message.key() or b"", message.value())
            if broken is not None:
                log.error("invalid registry record, its device is rejected (see `millrace doctor`): %s", broken)
        if batch:
            self._position = (batch[-1].offset() or 0) + 1
        if batch and self._caught_up.is_set():
            metrics.DEVICES.set(len(self._credentials))
