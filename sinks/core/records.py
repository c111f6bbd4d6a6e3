"""Records of the logs as the sink reads them: what their headers say, before any value is opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from runtime.errors import RefusedError
from schemas import headers, raw, readings
from schemas.errors import ContractError, NewerSchemaError
from schemas.headers import Counts, Provenance
from schemas.skips import declared
from schemas.vocabulary import Kind

RAW_READER: Final = "access"
READINGS_READER: Final = "aggregate"
"""Stages by whose name a record of these topics is skipped; the sink obeys the skips of any stage."""


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
    found, kind = _open(where, record, raw.NAME, raw.VERSION, RAW_READER)
    received = Received()
    if kind is Kind.DATA:
        with Contract(where, record.offset, RAW_READER):
            received = _received(found)
    origin = Provenance(epoch, record.offset, record.offset - 1)
    busy = kind is not Kind.TICK
    return Entry(record.offset, record.appended_ms, kind, origin, 1, found, record.value, received, busy=busy)


def read_readings(where: str, record: Arrival) -> Entry:
    """A record of telemetry.readings. Raises RefusedError for one that breaks the contract or is newer than it."""
    found, kind = _open(where, record, readings.NAME, readings.VERSION, READINGS_READER)
    with Contract(where, record.offset, READINGS_READER):
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


def _received(found: Mapping[str, bytes]) -> Received:
    """What the headers declare. Raises ContractError where a stage that skips the record would count otherwise."""
    platform = headers.number(found, "platform")
    stated = Received(headers.number(found, "rows") - platform, platform, headers.number(found, "replayed"))
    if stated != _declared(found):
        raise ContractError(f"its headers declare {stated.messages} messages, {stated.replayed} of them replayed")
    return stated


def _declared(found: headers.Headers | Mapping[str, bytes]) -> Received:
    counted = declared(found)
    return Received(counted.messages, counted.platform, counted.replayed)


def skipped_raw(epoch: int, record: Arrival) -> Entry:
    """In place of a record of telemetry.raw that cannot be read and is to be skipped: access answers it by what its
    headers declare, so it counts for as many here."""
    origin, found = Provenance(epoch, record.offset, record.offset - 1), dict(record.headers)
    known = (record.offset, record.appended_ms, Kind.DATA, origin, 1, found, record.value)
    return Entry(*known, received=_declared(record.headers), busy=True)


def skipped_readings(record: Arrival) -> Entry | None:
    """In place of a record of telemetry.readings that is to be skipped. None without provenance: it is no part of what
    access wrote. With provenance its messages count as its headers say; its rows are missing, and the ledger shows it.
    """
    found = dict(record.headers)
    try:
        origin, time_ms = Provenance.parse(found), headers.number(found, "time")
        counts = Counts.parse(found)
    except ContractError:
        return None
    known = (record.offset, record.appended_ms, Kind.DATA, origin, 1, found, b"")
    return Entry(*known, counts=counts, time_ms=time_ms, busy=True)


def _open(where: str, record: Arrival, name: str, newest: int, stage: str = "") -> tuple[Mapping[str, bytes], Kind]:
    with Contract(where, record.offset, stage):
        found = headers.table(record.headers)
        headers.check_schema(found, name, newest)
        return found, headers.kind_of(found)


class UnreadableRecordError(RefusedError):
    """A record that breaks the contract, or is of a newer version of it. An operator may skip it."""


class Contract:
    """A context in which a broken contract becomes an UnreadableRecordError that names the record. `reader`: a stage
    that reads the topic, by which the record can be skipped; empty where there is none."""

    __slots__ = ("offset", "reader", "where")

    def __init__(self, where: str, offset: int, reader: str = "") -> None:
        self.where, self.offset, self.reader = where, offset, reader

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, NewerSchemaError):
            raise UnreadableRecordError(f"{self.where} offset {self.offset}: {error}") from error
        if isinstance(error, ContractError):
            raise UnreadableRecordError(
                f"{self.where} offset {self.offset} breaks the contract: {error}. {self._way_out()}"
            ) from error

    def _way_out(self) -> str:
        topic, _, partition = self.where.removesuffix("]").partition("[")
        return (
            f"If no service of Millrace wrote it, skip it: `millrace stage skip {self.reader or topic}"
            f" --partition {partition} --offset {self.offset} --reason '...'`, then `millrace restart sink`"
        )
