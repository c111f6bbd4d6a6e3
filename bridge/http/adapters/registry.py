"""Follows platform.control from its beginning, so that a token that ends is refused within a second."""

import asyncio
import logging
import threading
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from bridge.http import metrics
from bridge.http.core.credentials import Credentials
from runtime.errors import FatalError
from runtime.kafka import clients
from runtime.lifecycle import die
from runtime.settings import KafkaSettings
from runtime.tasks import in_thread
from schemas.errors import ContractError
from schemas.topics import CONTROL

log = logging.getLogger(__name__)

_POLL_S: Final = 0.1
_WAIT_S: Final = 0.02


class Follower:
    """Keeps `credentials` in step with the registry, in a thread of its own. Started means: all of it was read."""

    def __init__(self, settings: KafkaSettings, credentials: Credentials) -> None:
        self._settings = settings
        self._credentials = credentials
        self._caught_up = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="registry", daemon=True)

    async def start(self) -> None:
        self._thread.start()
        while not self._caught_up.is_set():  # noqa: ASYNC110 (the thread has no loop to tell)
            await asyncio.sleep(_WAIT_S)

    async def stop(self) -> None:
        self._stopping.set()
        await in_thread(self._thread.join)

    def wrong(self) -> str | None:
        """For readiness."""
        return None if self._caught_up.is_set() else "the registry is not read yet"

    def _run(self) -> None:
        try:
            consumer = clients.consumer(self._settings, clients.READER, more={"enable.partition.eof": True})
            consumer.assign([TopicPartition(CONTROL, 0, OFFSET_BEGINNING)])
            self._follow(consumer)
            consumer.close()
        except Exception as error:
            die(error, "registry")

    def _follow(self, consumer: Consumer) -> None:
        while not self._stopping.is_set():
            for message in consumer.consume(1_000, _POLL_S):
                self._take(message)
            metrics.DEVICES.set(len(self._credentials))

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is None:
            self._apply(message)
        elif error.name() == "_PARTITION_EOF":
            self._caught_up.set()
        elif error.retriable():
            log.warning("registry: %s", error.str())
        else:
            raise FatalError(f"cannot follow {CONTROL}: {error.name()}: {error.str()}")

    def _apply(self, message: Message) -> None:
        try:
            self._credentials.apply((message.key() or b"").decode("utf-8", "replace"), message.value())
        except ContractError as error:
            log.error("registry record is broken, its device is refused: %s", error, extra={"offset": message.offset()})
