"""The commands: what is read and written in which order, so that no moment of failure leaves a lie."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from cli.context import changes, data_option, settings
from operations.backup import control, cut, manifest, tables
from operations.backup.manifest import File, Manifest, Topic
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.errors import RefusedError
from runtime.kafka import topics
from runtime.settings import KafkaSettings, setting
from schemas.control import TopicFacts
from schemas.topics import CONTROL, DERIVED, RAW, READINGS
from sinks.adapters.places import refuse_cluster

_TELEMETRY = (RAW, READINGS, *DERIVED)
_folder = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


@dataclass(frozen=True)
class BackupSettings(KafkaSettings, ClickHouseSettings):
    """Where Kafka and ClickHouse are."""

    sink_group: str = setting("millrace-sink", doc="Kafka consumer group of the sinks")


@click.command()
@_folder
@data_option
def backup(folder: Path, data: Path) -> None:
    """Write ClickHouse's tables and platform.control into FOLDER, which must not be there yet. The flow goes on.

    Example: millrace backup /backups/2026-11-25
    """
    found = settings(BackupSettings, data)
    if folder.exists():
        raise RefusedError(f"{folder} is there already; each back-up has a folder of its own")
    partial = folder.with_name(folder.name + ".partial")
    db = ClickHouse(found)
    try:
        refuse_cluster(db, "millrace backup copies one server")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700, parents=True)
        made = _backup(db, found, partial)
    finally:
        db.close()
    (partial / manifest.NAME).write_bytes(made.encode())
    partial.rename(folder)
    size, rows = sum(file.bytes for file in made.files), sum(file.rows for file in made.files)
    click.echo(f"{folder}: {rows:,} rows of {len(made.tables)} tables, {size:,} bytes")


def _backup(db: ClickHouse, kafka: KafkaSettings, folder: Path) -> Manifest:
    """The cut first: whatever the sink writes meanwhile lies above it. What operators decided last: it may be newer."""
    made_at, cuts = datetime.now(UTC).isoformat(timespec="seconds"), cut.cuts(tables.ends(db))
    read_on, migrations = tables.read_on(db, cuts), tables.migrations(db)
    files: list[File] = []
    for table in tables.tables(db):
        some = list(tables.export(db, table, cut.condition(table.name, set(table.columns), cuts), folder))
        click.echo(f"  {table.name}: {sum(file.rows for file in some):,} rows", err=True)
        files += some
    facts = _facts(kafka)
    known = {n: Topic(f.topic_id, f.epoch, f.partitions, read_on.get(n, {})) for n, f in facts.items()}
    path = folder / manifest.CONTROL
    control.write(path, control.decided(kafka))
    files.append(File(path.name, path.stat().st_size, manifest.sha256(path)))
    return Manifest(made_at, migrations, known, files)


def _facts(kafka: KafkaSettings) -> dict[str, TopicFacts]:
    """All topics as they are recorded. Raises RetryableError before `millrace init`."""
    topics.facts(kafka, CONTROL, RAW)
    return topics.recorded(kafka)


@click.command()
@_folder
@click.option(
    "--replace", is_flag=True, help="Empty the tables first. What they hold and the back-up does not is lost."
)
@click.option("--accept-loss", is_flag=True, help="Restore although Kafka lost records that came after the back-up.")
@data_option
@changes
def restore(folder: Path, replace: bool, accept_loss: bool, data: Path) -> None:
    """Bring a back-up into a platform of which only Kafka and ClickHouse run and `millrace init` has run.

    The sink then goes on where the back-up ends and reads again what Kafka holds. If Kafka was lost too,
    platform.control is restored, and its topics get new epochs.
    Example: millrace restore /backups/2026-11-25 --replace
    """
    found = settings(BackupSettings, data)
    held = manifest.read(folder)
    db = ClickHouse(found)
    try:
        refuse_cluster(db, "millrace restore fills one server")
        now = _facts(found)
        bounds = control.bounds(found, {name: now[name] for name in _TELEMETRY if name in now})
        wrong = [*manifest.check(folder, held), *_schema(db, held), *([] if replace else _full(db))]
        if wrong:
            raise RefusedError("nothing was changed:\n" + "\n".join(f"  {line}" for line in wrong))
        ends = {name: max(high for (topic, _), (_, high) in bounds.items() if topic == name) for name, _ in bounds}
        new = control.successors(held.topics, now, ends)
        _tell_loss(control.lost(held.topics, now, bounds), accept_loss)
        control.forget_commits(found, found.sink_group)
        _load(db, held, folder)
    finally:
        db.close()
    if now[CONTROL].topic_id != held.topics[CONTROL].topic_id:
        control.restore(found, control.read(folder / manifest.CONTROL), new)
        click.echo("platform.control: restored; epochs: " + ", ".join(f"{n} {f.epoch}" for n, f in sorted(new.items())))
    click.echo(f"restored {sum(file.rows for file in held.files):,} rows of {held.made_at}; start the services now")


def _schema(db: ClickHouse, held: Manifest) -> Iterator[str]:
    there = tables.migrations(db)
    for name, checksum in held.migrations.items():
        if there.get(name) != checksum:
            what = "lacks" if name not in there else "has another"
            yield f"database {db.database} {what} migration {name}: run `millrace init` of this or a newer version"


def _full(db: ClickHouse) -> Iterator[str]:
    for table in tables.tables(db):
        rows = db.rows(f"SELECT count() FROM {table.name}")[0][0]
        if rows:
            yield f"{table.name} holds {rows:,} rows; --replace empties the tables first"


def _tell_loss(lost: list[str], accepted: bool) -> None:
    if not lost:
        return
    told = "\n".join(f"  {line}" for line in lost)
    if not accepted:
        raise RefusedError(f"Kafka does not hold all that came after the back-up:\n{told}\n--accept-loss restores it")
    click.echo(f"lost for ClickHouse:\n{told}", err=True)


def _load(db: ClickHouse, held: Manifest, folder: Path) -> None:
    """Everything is emptied before anything is loaded, and the ledger comes last."""
    there = tables.tables(db)
    for table in reversed(there):
        db.command(f"TRUNCATE TABLE {table.name}")
    for table in there:
        files = held.tables.get(table.name, [])
        tables.load(db, table.name, files, folder, held.made_at)
        click.echo(f"  {table.name}: {sum(file.rows for file in files):,} rows", err=True)
    tables.newest_presence(db)
