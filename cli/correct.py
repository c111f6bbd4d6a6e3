"""The command. A reading is never missing while it is corrected; for the seconds of one mutation it stands twice.

New rows are inserted beside the old ones; when all are there, that is noted; then the old rows are copied aside and
taken out. A correction that was cut off before the note is undone (all old rows are there), after it finished (all new
rows are there). Which is which is told by `stored_at`, which ClickHouse's clock gives.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import click

from cli.context import Servers, announce, data_option, settings
from cli.times import Moment
from operations.correct import answers, work
from operations.correct.work import Correction, Found, Span
from operations.log import read
from runtime.clickhouse.client import ClickHouse
from runtime.errors import RefusedError
from runtime.kafka import clients, topics
from runtime.settings import KafkaSettings
from schemas.topics import RAW
from sinks.adapters import kafka
from sinks.adapters.places import refuse_cluster
from sinks.core.inserts import Insert
from sinks.core.logs import LOGS
from sinks.core.records import Arrival
from streams.access.core.stage import AccessStage


@click.command()
@click.option(
    "--from", "since", type=Moment(), required=True, help="Received by Kafka at or after: ISO 8601, or 2d ago."
)
@click.option("--to", "until", type=Moment(), required=True, help="And before.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@data_option
def correct(since: datetime, until: datetime, dry_run: bool, data: Path) -> None:
    """Read the accepted messages of a time anew from telemetry.raw, with the decoder and the rules of this version, and
    put the readings in the place of those that differ. The old ones go to readings_superseded.

    Example: millrace correct --from 2026-11-24T00:00Z --to 2026-11-25T00:00Z --dry-run
    """
    if until <= since:
        raise RefusedError(f"--to {until.isoformat()} is not after --from {since.isoformat()}")
    if not dry_run:
        announce(data)
    servers = settings(Servers, data)
    db = ClickHouse(servers)
    try:
        refuse_cluster(db, "millrace correct changes the tables of one server")
        _clear(db)
        _correct(db, servers, since, until, dry_run)
        work.drop(db)
    finally:
        db.close()


def _clear(db: ClickHouse) -> None:
    """Finish or undo a correction that was cut off."""
    left = work.unfinished(db)
    if left is None:
        return
    correction, phase = left
    if phase == "inserted":
        _finish(db, correction)
    else:
        work.undo_insert(db, correction)
        work.note(db, correction, "undone")
        click.echo(f"undone: the correction of {correction.correction}, which was cut off")


def _finish(db: ClickHouse, correction: Correction) -> None:
    work.set_aside(db, correction)
    work.note(db, correction, "done")
    click.echo(f"corrected: {correction.readings:,} readings of {correction.messages:,} messages")


def _correct(db: ClickHouse, broker: KafkaSettings, since: datetime, until: datetime, dry_run: bool) -> None:
    wanted = work.spans(db, topics.facts(broker, RAW)[RAW].epoch, since, until)
    if not wanted:
        click.echo("nothing was received in that time")
        return
    began_at = work.begin(db)
    _read_anew(db, broker, wanted)
    found = work.compare(db, wanted)
    _tell(found)
    if dry_run or not found.changed:
        return
    work.keep_changed(db, wanted)
    counts = (found.changed, found.readings, found.recounted, found.refused)
    name, logic = began_at.isoformat(timespec="milliseconds"), AccessStage.logic_version
    correction = Correction(name, since, until, *counts, logic, work.now(db))
    work.note(db, correction, "begun")
    work.insert(db)
    work.note(db, correction, "inserted")
    _finish(db, correction)


def _tell(found: Found) -> None:
    click.echo(f"the same: {found.same:,} messages")
    click.echo(f"different: {found.changed:,} messages with {found.readings:,} readings")
    if found.recounted:
        click.echo(f"left as they are: {found.recounted:,} messages would have another number of readings")
    if found.refused:
        click.echo(f"left as they are: {found.refused:,} messages would be refused today")


def _read_anew(db: ClickHouse, broker: KafkaSettings, wanted: list[Span]) -> None:
    consumer = clients.consumer(broker, clients.READER)
    try:
        for span in wanted:
            low, _ = kafka.ends(consumer, RAW, span.partition)
            if low > span.first:
                raise RefusedError(
                    f"{RAW}[{span.partition}]: retention took offsets {span.first} to {low - 1}: only what Kafka holds"
                    " can be read anew. Choose a later --from"
                )
        for span in wanted:
            records = read(consumer, RAW, span.partition, span.first, span.last + 1)
            for rows in _inserts(db, span, records):
                db.insert(work.NEW, rows.rows, f"correct/{rows.token}")
    finally:
        consumer.close()


def _inserts(db: ClickHouse, span: Span, records: Iterator[Arrival]) -> Iterator[Insert]:
    made = answers.state(span.epoch, span.partition, work.in_force(db, span))
    for part in answers.ranges(made, span.epoch, span.partition, records):
        yield from (insert for insert in LOGS[part.topic].plan(part) if insert.table == "readings")
