"""The phases of a correction in ClickHouse, each noted in the table corrections.

A reading is never missing while it is corrected; for the seconds of one mutation it is there twice. New rows are
inserted beside the old ones; when all are there, phase `inserted` is noted; then the old rows are copied to
readings_superseded and deleted. A correction that broke off before `inserted` is undone (all old rows are there), one
that broke off later is finished (all new rows are there). Old and new differ in `stored_at`, which ClickHouse's
clock gives.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from operations.correct.compare import COLUMNS, MESSAGE, Span, hashes, within
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.errors import translated
from runtime.errors import RefusedError

NEW: Final = "readings_corrected"
"""Holds what access of this version decodes, then the rows that replace others."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A row of the table corrections, without its phase."""

    correction: str
    since: datetime
    until: datetime
    messages: int
    readings: int
    recounted: int
    refused: int
    logic: int
    began_at: datetime


def begin(db: ClickHouse) -> datetime:
    """Create the table for what is decoded again. Returns the server's time."""
    drop(db)
    db.command(f"CREATE TABLE {NEW} AS readings")
    return now(db)


def now(db: ClickHouse) -> datetime:
    found: datetime = db.rows("SELECT now64(3, 'UTC')")[0][0]
    return found


def drop(db: ClickHouse) -> None:
    db.command(f"DROP TABLE IF EXISTS {NEW} SYNC")


def keep_changed(db: ClickHouse, wanted: list[Span]) -> None:
    """Of the new rows keep those of messages that are to be replaced."""
    stored, fresh = hashes("readings", within(wanted)), hashes(NEW)
    changed = (
        f"SELECT {MESSAGE} FROM ({stored}) AS a JOIN ({fresh}) AS b USING ({MESSAGE})"
        " WHERE a.n = b.n AND a.hash != b.hash"
    )
    db.command(f"ALTER TABLE {NEW} DELETE WHERE ({MESSAGE}) NOT IN ({changed})", mutations_sync=2)


def note(db: ClickHouse, correction: Correction, phase: str) -> None:
    """Write into the table corrections that a phase is reached."""
    names = [f.name for f in fields(correction)]
    values: list[Any] = [getattr(correction, name) for name in names]
    kinds = {str: "String", int: "UInt64", datetime: "DateTime64(3, 'UTC')"}
    holes = [f"{{{name}:{kinds[type(value)]}}}" for name, value in zip(names, values, strict=True)]
    with_values = dict(zip(names, values, strict=True))
    with translated("note a correction"):
        db.client.command(
            f"INSERT INTO corrections ({', '.join(names)}, phase) SELECT {', '.join(holes)}, '{phase}'",
            parameters=with_values,
            settings={"insert_deduplicate": 0},
        )


def insert(db: ClickHouse) -> None:
    """Insert the new rows beside the old ones."""
    db.command(
        f"INSERT INTO readings ({COLUMNS}) SELECT {COLUMNS} FROM {NEW}",
        insert_deduplicate=0,
        max_partitions_per_insert_block=0,
    )


def old(correction: Correction) -> str:
    """Rows that a correction replaces."""
    return f"stored_at < '{_text(correction.began_at)}' AND ({MESSAGE}) IN (SELECT {MESSAGE} FROM {NEW})"


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S.") + f"{time.microsecond // 1000:03}"


def set_aside(db: ClickHouse, correction: Correction) -> None:
    """Copy the old rows to readings_superseded, once, then take them out of readings."""
    columns, name = f"{COLUMNS}, stored_at", correction.correction
    db.command(
        f"INSERT INTO readings_superseded (correction, {columns}) SELECT '{name}', {columns} FROM readings"
        f" WHERE {old(correction)} AND ({MESSAGE}) NOT IN"
        f" (SELECT {MESSAGE} FROM readings_superseded WHERE correction = '{name}')",
        insert_deduplicate=0,
        max_partitions_per_insert_block=0,
    )
    db.command(f"ALTER TABLE readings DELETE WHERE {old(correction)}", mutations_sync=2)


def new(correction: Correction) -> str:
    """Rows that it inserted."""
    return f"stored_at >= '{_text(correction.began_at)}' AND ({MESSAGE}) IN (SELECT {MESSAGE} FROM {NEW})"


def undo_insert(db: ClickHouse, correction: Correction) -> None:
    """Delete what a correction that broke off inserted; the old rows are all there."""
    db.command(f"ALTER TABLE readings DELETE WHERE {new(correction)}", mutations_sync=2)


def unfinished(db: ClickHouse) -> tuple[Correction, str] | None:
    """The correction that broke off, and the phase that it had reached. Changes nothing."""
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
        raise RefusedError(
            f"correction {found[0][0]} was interrupted and its table {NEW} was dropped: docs/operations/correct.md"
            " explains which of the duplicate readings are correct"
        )
    return Correction(*found[0][:-1]), found[0][-1]
