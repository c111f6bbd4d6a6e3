"""Up to which offset each reader of `platform.control` has applied it, so that a command can return when its change is
in force.

A reader (the relay, each bridge-http) commits its position in a consumer group of its own, `millrace-applied.{reader}`,
with the wall clock in the commit's metadata: at once after a change, otherwise once a second. A command that has
written a change waits until every live reader has passed it. A reader counts as live for FRESH_S after its last commit;
it must not answer "unknown" by its registry when its last commit is older than LEASE_S (`Publisher.leased`), so that a
command that no longer waits for it cannot be contradicted. The clocks of commands and readers may differ by
FRESH_S - LEASE_S.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from runtime.errors import RetryableError
from runtime.kafka import clients
from runtime.settings import KafkaSettings
from schemas.topics import CONTROL

log = logging.getLogger(__name__)

PREFIX: Final = "millrace-applied."
FRESH_S: Final = 15.0
LEASE_S: Final = 10.0
_IDLE_S: Final = 1.0
_BUSY_S: Final = 0.05
_POLL_S: Final = 0.05
_ANSWER_S: Final = 10.0
_STOPPED: Final = "stopped"


class Publisher:
    """Commits the position of a reader, in a thread of its own. `applied(offset)` may be called from any thread."""

    def __init__(self, settings: KafkaSettings, reader: str) -> None:
        """`reader`: name of the service and its instance, such as `bridge-http.0`."""
        self._consumer = clients.consumer(settings, PREFIX + reader, more={"log_level": 0})
        self._position = -1
        self._leased_until_s = 0.0
        self._failing = False
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="applied", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Commands do not wait for this reader any more."""
        self._stopping.set()
        self._changed.set()
        self._thread.join()
        self._commit(_STOPPED)
        self._consumer.close()

    def applied(self, position: int) -> None:
        """Everything before this offset is applied."""
        if position != self._position:
            self._position = position
            self._changed.set()

    @property
    def leased(self) -> bool:
        """Whether every command that has returned has waited for this reader."""
        return time.monotonic() < self._leased_until_s

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._changed.clear()
            if self._position >= 0:
                self._commit(str(time.time_ns() // 1_000_000))
            self._stopping.wait(_BUSY_S)
            self._changed.wait(_IDLE_S)

    def _commit(self, metadata: str) -> None:
        begun_s = time.monotonic()
        try:
            done = TopicPartition(CONTROL, 0, max(0, self._position), metadata)
            self._consumer.commit(offsets=[done], asynchronous=False)
        except KafkaException as error:
            if not self._failing:
                log.warning("the position in %s is not published: %s", CONTROL, error.args[0].str())
            self._failing = True
            return
        self._failing = False
        self._leased_until_s = begun_s + LEASE_S


@dataclass(frozen=True, slots=True)
class Reader:
    """A live reader of `platform.control`: it has applied everything before offset `position`, and reported so `age_s`
    seconds ago."""

    name: str
    position: int
    age_s: float


def readers(admin: AdminClient, now_s: Callable[[], float] = time.time) -> list[Reader]:
    """Every live reader. Raises RetryableError when Kafka does not answer."""
    try:
        listed = admin.list_consumer_groups(request_timeout=_ANSWER_S).result(_ANSWER_S)
        names = sorted(group.group_id for group in listed.valid if group.group_id.startswith(PREFIX))
        asked = [
            admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name, [TopicPartition(CONTROL, 0)])])[name]
            for name in names
        ]
        commits = [future.result(_ANSWER_S).topic_partitions[0] for future in asked]
    except KafkaException as error:
        raise RetryableError(
            f"cannot read from Kafka how far the services have applied platform.control: {error.args[0].str()}"
        ) from error
    found = []
    for name, commit in zip(names, commits, strict=True):
        metadata = commit.metadata or ""
        if commit.offset >= 0 and metadata.isdigit() and abs(now_s() - int(metadata) / 1000) <= FRESH_S:
            found.append(Reader(name.removeprefix(PREFIX), commit.offset, now_s() - int(metadata) / 1000))
    return found


def behind(settings: KafkaSettings, position: int, timeout_s: float) -> list[Reader]:
    """Wait until every live reader has applied everything before `position`; those that have not after `timeout_s`
    seconds. Empty when all have. Raises NoReaderError when no relay is live, RetryableError."""
    admin = clients.admin(settings)
    deadline = time.monotonic() + timeout_s
    while True:
        live = readers(admin)
        late = [reader for reader in live if reader.position < position]
        if not any(reader.name.startswith("relay.") for reader in live):
            raise NoReaderError("no relay is running")
        if not late or time.monotonic() > deadline:
            return late
        time.sleep(_POLL_S)


class NoReaderError(RetryableError):
    """Nothing carries control records into the stream."""
