"""Records of the logs as the sink reads them: what their headers say, before any value is opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runtime.errors import RefusedError
from schemas import headers, raw, readings
from schemas.errors import ContractError, NewerSchemaError
from schemas.headers import Counts, Provenance
from schemas.vocabulary import Kind


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record as Kafka hands it over. `appended_ms` is Kafka's append time, the same for every reader."""

    offset: int
    appended_ms: int
    headers: Sequence[tuple[str, bytes]]
    value: bytes


@dataclass(frozen=True, slots=True)
class Received:
    """What a record of telemetry.raw says of itself; `messages` without the platform's own rows."""

    messages: int = 0
    platform: int = 0
    replayed: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A record that was read. `rows` is what it will put into tables, its own row in the ledger included; `busy`:
    somebody waits for it, so that its range should not be long; `said`: the counts of a derived record.
    """

    offset: int
    appended_ms: int
    kind: Kind
    origin: Provenance
    rows: int
    found: Mapping[str, bytes]
    value: bytes
    received: Received = field(default_factory=Received)
    counts: Counts = field(default_factory=Counts)
    time_ms: int = 0
    busy: bool = False
    said: Mapping[str, int] = field(default_factory=dict)


def read_raw(epoch: int, where: str, record: Arrival) -> Entry:
    """A record of telemetry.raw of this epoch; its provenance is its own offset. Raises RefusedError."""
    found, kind = _open(where, record, raw.NAME, raw.VERSION)
    received = Received()
    if kind is Kind.DATA:
        with Contract(where, record.offset):
            platform = headers.number(found, "platform")
            messages = headers.number(found, "rows") - platform
            received = Received(messages, platform, headers.number(found, "replayed"))
    origin = Provenance(epoch, record.offset, record.offset - 1)
    busy = kind is not Kind.TICK
    return Entry(record.offset, record.appended_ms, kind, origin, 1, found, record.value, received, busy=busy)


def read_readings(where: str, record: Arrival) -> Entry:
    """A record of telemetry.readings. Raises RefusedError for one that breaks the contract or is newer than it."""
    found, kind = _open(where, record, readings.NAME, readings.VERSION)
    with Contract(where, record.offset):
        origin = Provenance.parse(found)
        time_ms = headers.number(found, "time")
        counts = Counts.parse(found) if kind is Kind.DATA else Counts()
    rows = 1 + counts.readings + counts.denied + counts.dead_letters + counts.events
    busy = kind is not Kind.TICK
    known = (record.offset, record.appended_ms, kind, origin, rows, found, record.value)
    return Entry(*known, counts=counts, time_ms=time_ms, busy=busy)


def read_derived(name: str, newest: int, counts: Sequence[str], where: str, record: Arrival) -> Entry:
    """A record of a stage behind access, of schema `name` up to version `newest`, whose headers hold `counts`.

    It is busy when it holds rows or counted any reading. Raises RefusedError.
    """
    found, kind = _open(where, record, name, newest)
    with Contract(where, record.offset):
        origin = Provenance.parse(found)
        time_ms, rows = headers.number(found, "time"), headers.number(found, "rows")
        said = {count: headers.number(found, count) for count in counts}
    busy = bool(rows or said.get("readings"))
    known = (record.offset, record.appended_ms, kind, origin, 1 + rows, found, record.value)
    return Entry(*known, time_ms=time_ms, busy=busy, said=said)


def _open(where: str, record: Arrival, name: str, newest: int) -> tuple[Mapping[str, bytes], Kind]:
    with Contract(where, record.offset):
        found = headers.table(record.headers)
        headers.check_schema(found, name, newest)
        return found, headers.kind_of(found)


class Contract:
    """A context in which a broken contract becomes a RefusedError that names the record."""

    __slots__ = ("offset", "where")

    def __init__(self, where: str, offset: int) -> None:
        self.where, self.offset = where, offset

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, NewerSchemaError):
            raise RefusedError(f"{self.where} offset {self.offset}: {error}") from error
        if isinstance(error, ContractError):
            raise RefusedError(
                f"{self.where} offset {self.offset}: {error}. The record was written by something else than Millrace"
            ) from error
