"""A correction from its beginning to its end, and the dry run, which changes nothing at all."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import pyarrow as pa

from operations.correct import phases
from operations.correct.compare import (
    HASHES,
    Comparison,
    Span,
    column_types,
    compare,
    hashes,
    hashes_of,
    spans,
    within,
)
from operations.correct.phases import NEW, Correction
from operations.progress import Report, Step, silent
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.errors import RefusedError
from runtime.kafka import topics
from runtime.kafka.log import LogReader
from runtime.kafka.skips import read_skips
from runtime.settings import KafkaSettings
from schemas.control import Device
from schemas.errors import ContractError
from schemas.headers import Version
from schemas.skips import Skip
from schemas.topics import RAW, READINGS
from sinks.stored import START, Arrival, Insert, arrivals, inserts, ranges, refuse_cluster, sources
from streams.access import reprocess
from streams.access.reprocess import LOGIC_VERSION, STAGE, InForce, Reprocessor

READINGS_TABLE: Final = "readings"
COMPARED_MESSAGES: Final = 1_000_000
"""A dry run compares so many messages by one query: 32 MB of hashes travel with it."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """An earlier correction that broke off, at a phase: `begun` or `inserted`. `then`: what was done about it, or in a
    dry run what the next correction will do: `undone` or `finished`."""

    correction: Correction
    phase: str

    @property
    def then(self) -> str:
        return "finished" if self.phase == "inserted" else "undone"


@dataclass(frozen=True, slots=True)
class CorrectResult:
    """What was found and done. `found` is None where nothing was received in that time."""

    found: Comparison | None
    interrupted: Interrupted | None = None
    corrected: Correction | None = None


def correct(
    kafka: KafkaSettings,
    clickhouse: ClickHouseSettings,
    since: datetime,
    until: datetime,
    *,
    dry_run: bool = False,
    report: Report = silent,
) -> CorrectResult:
    """Decode the accepted messages that Kafka appended in [since, until) again and replace readings that differ.

    A correction that broke off is first finished or undone. With `dry_run` nothing is changed, not even that: it is
    compared as if it had been. Raises RefusedError and RetryableError.
    """
    if until <= since:
        raise RefusedError(f"the end {until.isoformat()} is not after the beginning {since.isoformat()}")
    with ClickHouse(clickhouse) as db:
        refuse_cluster(db, "millrace correct changes the tables of one server")
        left = phases.unfinished(db)
        interrupted = None if left is None else Interrupted(*left)
        if dry_run:
            return CorrectResult(_dry_run(db, kafka, since, until, interrupted, report), interrupted)
        if interrupted is not None:
            clear(db, interrupted)
        found, correction = _correct(db, kafka, since, until, report)
        phases.drop(db)
    return CorrectResult(found, interrupted, correction)


def clear(db: ClickHouse, interrupted: Interrupted) -> None:
    """Finish or undo a correction that broke off."""
    if interrupted.then == "finished":
        _finish(db, interrupted.correction)
    else:
        phases.undo_insert(db, interrupted.correction)
        phases.note(db, interrupted.correction, "undone")


def _finish(db: ClickHouse, correction: Correction) -> None:
    phases.set_aside(db, correction)
    phases.note(db, correction, "done")


def _correct(
    db: ClickHouse, kafka: KafkaSettings, since: datetime, until: datetime, report: Report
) -> tuple[Comparison | None, Correction | None]:
    wanted = _wanted(db, kafka, since, until)
    if not wanted:
        return None, None
    began_at = phases.begin(db)
    for part in _decoded(db, kafka, wanted, report):
        for insert in part.inserts:
            db.insert(NEW, insert.rows, f"correct/{insert.token}")
    found = compare(db, hashes(READINGS_TABLE, within(wanted)), hashes(NEW))
    if not found.changed:
        return found, None
    phases.keep_changed(db, wanted)
    counts = (found.changed, found.readings, found.recounted, found.refused)
    name = began_at.isoformat(timespec="milliseconds")
    correction = Correction(name, since, until, *counts, LOGIC_VERSION, phases.now(db))
    phases.note(db, correction, "begun")
    phases.insert(db)
    phases.note(db, correction, "inserted")
    _finish(db, correction)
    return found, correction


def _dry_run(
    db: ClickHouse,
    kafka: KafkaSettings,
    since: datetime,
    until: datetime,
    interrupted: Interrupted | None,
    report: Report,
) -> Comparison | None:
    """Nothing is written: hashes of what was decoded again travel with the query that compares them."""
    wanted = _wanted(db, kafka, since, until)
    if not wanted:
        return None
    types, without, found = column_types(db, READINGS_TABLE), _without(interrupted), Comparison()
    for span in wanted:
        first, fresh = span.first, list[pa.Table]()
        for part in _decoded(db, kafka, [span], report):
            if part.inserts:
                fresh.append(hashes_of(db, pa.concat_tables([insert.rows for insert in part.inserts]), types))
            if sum(some.num_rows for some in fresh) >= COMPARED_MESSAGES:
                found += _compared(db, replace(span, first=first, last=part.last), without, fresh)
                first, fresh = part.last + 1, []
        if first <= span.last:
            found += _compared(db, replace(span, first=first), without, fresh)
    return found


def _compared(db: ClickHouse, span: Span, without: str, fresh: list[pa.Table]) -> Comparison:
    stored = hashes(READINGS_TABLE, f"{span.condition} AND {without}")
    travels = pa.concat_tables(fresh) if fresh else HASHES.empty_table()
    return compare(db, stored, "SELECT * FROM fresh", travels)


def _without(interrupted: Interrupted | None) -> str:
    """The condition that leaves out what the next correction will delete."""
    if interrupted is None:
        return "true"
    which = phases.old if interrupted.then == "finished" else phases.new
    return f"NOT ({which(interrupted.correction)})"


def _wanted(db: ClickHouse, kafka: KafkaSettings, since: datetime, until: datetime) -> list[Span]:
    return spans(db, topics.facts(kafka, RAW)[RAW].epoch, since, until)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The readings of raw records up to offset `last` of a partition, as inserts."""

    last: int
    inserts: list[Insert]


def _decoded(db: ClickHouse, kafka: KafkaSettings, wanted: list[Span], report: Report) -> Iterator[Decoded]:
    orders = read_skips(kafka)
    with LogReader(kafka) as reader:
        for span in wanted:
            _refuse_lost(reader, span)
        for span in wanted:
            rows, skips = 0, orders.stage(STAGE, span.partition, span.epoch)
            for part in _of_span(db, reader, span, skips):
                rows += sum(insert.rows.num_rows for insert in part.inserts)
                yield part
            report(Step(f"{RAW}[{span.partition}]", rows, "readings decoded"))


def _refuse_lost(reader: LogReader, span: Span) -> None:
    low, _ = reader.bounds(RAW, span.partition)
    if low > span.first:
        raise RefusedError(
            f"{RAW}[{span.partition}]: retention deleted offsets {span.first} to {low - 1}: only what Kafka still holds"
            " can be decoded again. Nothing was changed. Choose a later beginning (--from)"
        )


def _of_span(db: ClickHouse, reader: LogReader, span: Span, skips: Mapping[int, Skip]) -> Iterator[Decoded]:
    source = sources()[READINGS]
    access = Reprocessor(span.epoch, span.partition, _in_force(db, span), skips)
    records = arrivals(reader.records(RAW, {span.partition: (span.first, span.last + 1)}))
    for part in ranges(source, span.epoch, span.partition, START, _answers(access, span, records)):
        yield Decoded(part.end - 1, list(inserts(source, part, READINGS_TABLE, NEW)))


def _answers(access: Reprocessor, span: Span, records: Iterator[Arrival]) -> Iterator[Arrival]:
    """Under the offsets of the raw records."""
    for record in records:
        try:
            answer = access.answer(record.offset, record.headers, record.value)
        except ContractError as error:
            raise RefusedError(
                f"{RAW}[{span.partition}] offset {record.offset}: access of this version cannot read it: {error}."
                " Nothing was changed. Choose a time without it (--from, --to)"
            ) from error
        if answer is not None:
            yield Arrival(record.offset, record.appended_ms, *answer)


def _in_force(db: ClickHouse, span: Span) -> Iterator[InForce]:
    """The policy and the devices that were in force before the first record of a span."""
    before = (
        f"raw_partition = {span.partition} AND (raw_epoch, raw_offset) < ({span.epoch}, {span.first})"
        " ORDER BY version_epoch DESC, version_offset DESC LIMIT 1"
    )
    version = "version_epoch, version_offset"
    for epoch, offset, text in db.rows(f"SELECT {version}, policy FROM policies WHERE {before}"):
        yield reprocess.policy(Version(epoch, offset), text)
    devices = f"SELECT {version}, device, role, state, parent, labels FROM devices WHERE {before} BY device"
    for epoch, offset, *about in db.rows(devices):
        yield reprocess.device(Version(epoch, offset), Device(*about))
