"""The steps of a correction in ClickHouse. Why they go in this order is said in command.py."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from operations.correct import answers
from operations.correct.answers import Known
from runtime.clickhouse.client import ClickHouse
from runtime.errors import RefusedError
from schemas.control import Device
from schemas.headers import Version

NEW: Final = "readings_corrected"
"""Holds what access of today says, and then the rows that replace others."""
_MESSAGE: Final = "raw_epoch, raw_partition, raw_offset, raw_row"
_SAID: Final = (
    "device, channel, metric, time, value, text, quality, received_at, boot, seq, publisher, replay_of, reading_index"
)
_COLUMNS: Final = f"{_MESSAGE}, {_SAID}"
_MARKS: Final = (
    f"SELECT {_MESSAGE}, count() AS n, sum(cityHash64(tuple({_SAID}))) AS mark FROM {{}} GROUP BY {_MESSAGE}"
)


@dataclass(frozen=True, slots=True)
class Span:
    """Raw records `first` to `last` of a partition."""

    epoch: int
    partition: int
    first: int
    last: int

    @property
    def condition(self) -> str:
        return (
            f"(raw_epoch = {self.epoch} AND raw_partition = {self.partition}"
            f" AND raw_offset BETWEEN {self.first} AND {self.last})"
        )


@dataclass(frozen=True, slots=True)
class Found:
    """Messages by what reading them anew says: `same`; `changed`, with so many `readings`; `recounted`, which would
    have another number of readings; `refused`, which access would not accept today."""

    same: int
    changed: int
    readings: int
    recounted: int
    refused: int


@dataclass(frozen=True, slots=True)
class Correction:
    """A row of the table corrections, but for its phase."""

    correction: str
    since: datetime
    until: datetime
    messages: int
    readings: int
    recounted: int
    refused: int
    logic: int
    began_at: datetime


def within(spans: list[Span]) -> str:
    return f"({' OR '.join(span.condition for span in spans)})"


def spans(db: ClickHouse, epoch: int, since: datetime, until: datetime) -> list[Span]:
    """What Kafka appended in that time and is in the tables whole."""
    found = db.rows(
        "SELECT r.raw_partition, min(r.raw_offset), least(max(r.raw_offset), any(f.last)) FROM ledger_received AS r"
        " JOIN (SELECT raw_partition, max(raw_offset) AS last FROM ledger_facts WHERE raw_epoch = {epoch:UInt16}"
        " GROUP BY raw_partition) AS f ON f.raw_partition = r.raw_partition"
        " WHERE r.raw_epoch = {epoch:UInt16} AND r.append_time >= {since:DateTime64(3)}"
        " AND r.append_time < {until:DateTime64(3)} GROUP BY r.raw_partition ORDER BY r.raw_partition",
        {"epoch": epoch, "since": since, "until": until},
    )
    return [Span(epoch, partition, first, last) for partition, first, last in found if last >= first]


def in_force(db: ClickHouse, span: Span) -> Iterator[Known]:
    """The policy and the devices as they stood before the first record of a span."""
    before = (
        f"raw_partition = {span.partition} AND (raw_epoch, raw_offset) < ({span.epoch}, {span.first})"
        " ORDER BY version_epoch DESC, version_offset DESC LIMIT 1"
    )
    version = "version_epoch, version_offset"
    for epoch, offset, text in db.rows(f"SELECT {version}, policy FROM policies WHERE {before}"):
        yield answers.policy(Version(epoch, offset), text)
    devices = f"SELECT {version}, device, role, state, parent, labels FROM devices WHERE {before} BY device"
    for epoch, offset, *about in db.rows(devices):
        yield answers.device(Version(epoch, offset), Device(*about))


def begin(db: ClickHouse) -> datetime:
    """Make the table for what is read anew; the server's time."""
    drop(db)
    db.command(f"CREATE TABLE {NEW} AS readings")
    return now(db)


def now(db: ClickHouse) -> datetime:
    found: datetime = db.rows("SELECT now64(3, 'UTC')")[0][0]
    return found


def drop(db: ClickHouse) -> None:
    db.command(f"DROP TABLE IF EXISTS {NEW} SYNC")


def compare(db: ClickHouse, wanted: list[Span]) -> Found:
    """What is in the table against what was read anew."""
    old = _MARKS.format(f"readings WHERE {within(wanted)}")
    found = db.rows(
        "SELECT countIf(b.n = a.n AND a.mark = b.mark), countIf(b.n = a.n AND a.mark != b.mark),"
        " sumIf(a.n, b.n = a.n AND a.mark != b.mark), countIf(b.n != a.n AND b.n > 0), countIf(b.n = 0)"
        f" FROM ({old}) AS a LEFT JOIN ({_MARKS.format(NEW)}) AS b USING ({_MESSAGE})"
    )
    return Found(*found[0])


def keep_changed(db: ClickHouse, wanted: list[Span]) -> None:
    """Of what was read anew keep the messages that are to be replaced."""
    old = _MARKS.format(f"readings WHERE {within(wanted)}")
    changed = (
        f"SELECT {_MESSAGE} FROM ({old}) AS a JOIN ({_MARKS.format(NEW)}) AS b USING ({_MESSAGE})"
        " WHERE a.n = b.n AND a.mark != b.mark"
    )
    db.command(f"ALTER TABLE {NEW} DELETE WHERE ({_MESSAGE}) NOT IN ({changed})", mutations_sync=2)


def note(db: ClickHouse, correction: Correction, phase: str) -> None:
    """Say in the table corrections that a phase is reached."""
    names = [f.name for f in fields(correction)]
    values: list[Any] = [getattr(correction, name) for name in names]
    kinds = {str: "String", int: "UInt64", datetime: "DateTime64(3, 'UTC')"}
    holes = [f"{{{name}:{kinds[type(value)]}}}" for name, value in zip(names, values, strict=True)]
    with_values = dict(zip(names, values, strict=True))
    db.client.command(
        f"INSERT INTO corrections ({', '.join(names)}, phase) SELECT {', '.join(holes)}, '{phase}'",
        parameters=with_values,
        settings={"insert_deduplicate": 0},
    )


def insert(db: ClickHouse) -> None:
    """Put the new rows beside the old ones."""
    db.command(
        f"INSERT INTO readings ({_COLUMNS}) SELECT {_COLUMNS} FROM {NEW}",
        insert_deduplicate=0,
        max_partitions_per_insert_block=0,
    )


def _old(correction: Correction) -> str:
    """Rows that a correction replaces."""
    return f"stored_at < '{_text(correction.began_at)}' AND ({_MESSAGE}) IN (SELECT {_MESSAGE} FROM {NEW})"


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S.") + f"{time.microsecond // 1000:03}"


def set_aside(db: ClickHouse, correction: Correction) -> None:
    """Copy the old rows to readings_superseded, once, then take them out of readings."""
    columns, name = f"{_COLUMNS}, stored_at", correction.correction
    db.command(
        f"INSERT INTO readings_superseded (correction, {columns}) SELECT '{name}', {columns} FROM readings"
        f" WHERE {_old(correction)} AND ({_MESSAGE}) NOT IN"
        f" (SELECT {_MESSAGE} FROM readings_superseded WHERE correction = '{name}')",
        insert_deduplicate=0,
        max_partitions_per_insert_block=0,
    )
    db.command(f"ALTER TABLE readings DELETE WHERE {_old(correction)}", mutations_sync=2)


def undo_insert(db: ClickHouse, correction: Correction) -> None:
    """Take out what a correction that was cut off inserted; the old rows are all there."""
    newer = f"stored_at >= '{_text(correction.began_at)}' AND ({_MESSAGE}) IN (SELECT {_MESSAGE} FROM {NEW})"
    db.command(f"ALTER TABLE readings DELETE WHERE {newer}", mutations_sync=2)


def unfinished(db: ClickHouse) -> tuple[Correction, str] | None:
    """The correction that was cut off, and the phase that it had reached."""
    names = [f.name for f in fields(Correction)]
    found = db.rows(
        f"SELECT {', '.join(names)}, phase FROM corrections WHERE correction NOT IN"
        " (SELECT correction FROM corrections WHERE phase IN ('done', 'undone')) ORDER BY at DESC LIMIT 1"
    )
    if not found:
        return None
    there = db.rows(
        "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = {n:String}", {"n": NEW}
    )
    if not there[0][0]:
        raise RefusedError(f"a correction was cut off and its table {NEW} is gone: see docs/operations/correct.md")
    return Correction(*found[0][:-1]), found[0][-1]
