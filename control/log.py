"""Compare-and-set on `platform.control`, decided by the log.

Kafka has no compare-and-set, and in a compacted topic the record that lost would survive. So every writer of decisions
uses the same transactional.id: a writer that begins (`init_transactions`) aborts whatever the one before had open and
fences it, then reads the log to its end, decides, and writes everything in one transaction. Whatever was stopped
between its read and its write finds itself fenced, reads what was written meanwhile, and decides again. Readers are
`read_committed`. docs/adr/0019.
"""

import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from runtime.errors import RetryableError
from runtime.kafka import clients
from runtime.kafka.log import OLDEST, LogReader
from runtime.kafka.produce import Deliveries, NewRecord, NotAcknowledgedError
from runtime.kafka.rights import CONTROL_TRANSACTION
from runtime.settings import KafkaSettings
from schemas.control import CHANGE_HEADER, FORMAT, FORMAT_HEADER
from schemas.headers import Headers
from schemas.topics import CONTROL

T = TypeVar("T")
Interest = Callable[[bytes, bytes | None], bool]
"""Whether a record, by key and value, matters to a change. Only records that do are kept in memory."""

PATIENCE_S: Final = 60.0
"""How long a writer tries again after others fenced it."""
_ANSWER_S: Final = 30.0
_OPEN_MS: Final = 10_000
"""An open transaction holds back every reader: one whose writer died is aborted after this."""
_LONGEST_OPEN_MS: Final = 600_000
_VISIBLE_S: Final = 0.005
_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 3.0


def everything(_key: bytes, _value: bytes | None) -> bool:
    return True


class View:
    """The newest record of each key that matters, as of the last `read`. Tombstones are kept, with value None."""

    def __init__(self, interest: Interest = everything) -> None:
        self.records: dict[bytes, Message] = {}
        self.changes: set[bytes] = set()
        """Names of the changes that were read, of records that matter."""
        self._interest = interest
        self._position = OLDEST

    def read(self, log: LogReader) -> None:
        """Go on to the end of the log as of now."""
        end = log.bounds(CONTROL, 0)[1]
        for batch in log.read(CONTROL, {0: (self._position, end)}):
            for message in batch:
                self._take(message)
        self._position = end

    def _take(self, message: Message) -> None:
        key = message.key() or b""
        if self._interest(key, message.value()):
            self.records[key] = message
            self.changes.add(headers_of(message).get(CHANGE_HEADER, b""))
        else:
            self.records.pop(key, None)

    def get(self, key: str) -> Message | None:
        return self.records.get(key.encode())


def headers_of(message: Message) -> dict[str, bytes]:
    headers: Any = message.headers()
    return dict(headers or ())


@dataclass(frozen=True, slots=True)
class NewDecision:
    """A record to be written: key, value, and headers beyond those that every record has."""

    key: str
    value: bytes
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """What was decided: the records, and an answer for the caller."""

    records: Sequence[NewDecision]
    answer: T


@dataclass(frozen=True, slots=True)
class Written(Generic[T]):
    """A change that Kafka holds. `position`: the offset after its last record, -1 when there was nothing to write."""

    answer: T
    position: int


def read(settings: KafkaSettings, interest: Interest = everything) -> View:
    """The log as of now. Raises RetryableError."""
    view = View(interest)
    with LogReader(settings) as log:
        view.read(log)
    return view


def change(settings: KafkaSettings, interest: Interest, decide: Callable[[View], Change[T]]) -> Written[T]:
    """Write what `decide` makes of the log, provided that no other process wrote in between; otherwise decide again.

    `decide` is pure and may be called several times; what it raises ends the change, and nothing is written. Raises
    RetryableError when Kafka does not answer, or other writers got in between for PATIENCE_S.
    """
    with LogReader(settings) as log:
        view = View(interest)
        view.read(log)
        found = decide(view)  # what is refused now is refused without getting in anybody's way
        if not found.records:
            return Written(found.answer, -1)
        return _Writer(settings, log, view, len(found.records)).write(decide)


class _LostError(Exception):
    """Another writer has begun: this one is fenced."""


class _Writer:
    """Tries until a transaction commits."""

    def __init__(self, settings: KafkaSettings, log: LogReader, view: View, expected: int) -> None:
        """`expected`: about how many records there are to write."""
        self._settings, self._log, self._view, self._expected = settings, log, view, expected
        self._name = secrets.token_hex(8).encode()
        self._maybe: Written[Any] | None = None
        """A change whose commit was sent and not answered."""

    def write(self, decide: Callable[[View], Change[T]]) -> Written[T]:
        deadline, wait_s = time.monotonic() + PATIENCE_S, _FIRST_WAIT_S
        while True:
            try:
                return self._attempt(decide)
            except _LostError as error:
                if time.monotonic() > deadline:
                    raise RetryableError(
                        f"other writers kept changing {CONTROL} for {PATIENCE_S:.0f} s: {error}. Try again"
                    ) from None
            time.sleep(random.uniform(0, wait_s))  # noqa: S311 (no secret)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _attempt(self, decide: Callable[[View], Change[T]]) -> Written[T]:
        producer = self._begin(max(self._expected, len(self._view.records)))
        self._view.read(self._log)
        if self._maybe is not None and self._name in self._view.changes:
            return self._maybe
        found = decide(self._view)
        if not found.records:
            return Written(found.answer, -1)
        out = Deliveries(producer, _ANSWER_S)
        own = [(FORMAT_HEADER, FORMAT), (CHANGE_HEADER, self._name)]
        try:
            producer.begin_transaction()
            for record in found.records:
                out.send(NewRecord(CONTROL, record.value, key=record.key, headers=[*own, *record.headers]))
            written = Written(found.answer, out.wait()[CONTROL, 0] + 1)
            self._maybe = written
            _commit(producer)
        except KafkaException as error:
            raise _lost_or(error.args[0], error) from error
        except NotAcknowledgedError as error:
            raise _lost_or(error.reason, error) from error
        self._until_visible(written.position)
        return written

    def _until_visible(self, position: int) -> None:
        """Kafka answers a commit before its marker is in the log: until then readers stand before the change, and the
        next command would not see it."""
        deadline = time.monotonic() + _ANSWER_S
        while self._log.bounds(CONTROL, 0)[1] < position and time.monotonic() < deadline:
            time.sleep(_VISIBLE_S)

    def _begin(self, records: int) -> Producer:
        """Fence the writer before, and abort what it had open."""
        open_ms = min(_OPEN_MS + records, _LONGEST_OPEN_MS)
        own = {"transactional.id": CONTROL_TRANSACTION, "transaction.timeout.ms": open_ms, "linger.ms": 5}
        producer = clients.producer(self._settings, own)
        try:
            producer.init_transactions(_ANSWER_S)
        except KafkaException as error:
            raise _lost_or(error.args[0], error) from error
        return producer


def _commit(producer: Producer) -> None:
    deadline = time.monotonic() + _ANSWER_S
    while True:
        try:
            producer.commit_transaction(_ANSWER_S)
            return
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > deadline:
                raise


_FENCED: Final = frozenset(
    {
        "_FENCED",
        "PRODUCER_FENCED",
        "INVALID_PRODUCER_EPOCH",
        "CONCURRENT_TRANSACTIONS",
        "INVALID_TXN_STATE",
        "_FATAL",  # what produce answers once the producer knows that it is fenced
        "_PURGE_QUEUE",
        "_PURGE_INFLIGHT",
    }
)


def _lost_or(error: KafkaError | None, raised: Exception) -> Exception:
    """_LostError when another writer, or the time-out of the transaction, ended it; RetryableError otherwise."""
    if error is not None and (error.name() in _FENCED or error.fatal() or error.txn_requires_abort()):
        return _LostError(error.str())
    text = str(raised) if error is None else error.str()
    return RetryableError(
        f"it is not known whether the change of {CONTROL} was stored, check before you repeat it: Kafka: {text}"
    )
