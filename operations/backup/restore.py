"""Restoring a backup. Everything is checked before anything is changed, and a restore that broke off goes on when the
same command runs again: control records and tables are written in an order in which doing it twice changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from operations.backup import control, journal, manifest, tables
from operations.backup.manifest import Manifest
from operations.backup.settings import BackupSettings
from operations.progress import Report, Step, silent
from runtime.clickhouse.client import ClickHouse
from runtime.errors import RefusedError
from runtime.kafka import topics
from schemas.topics import CONTROL, DERIVED, RAW, READINGS
from sinks.stored import refuse_cluster

_TELEMETRY = (RAW, READINGS, *DERIVED)


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What was restored. `lost`: what Kafka no longer holds of what came after the backup, a line each. `epochs`: of
    the topics that got a new one; empty where Kafka was not lost. `resumed`: an earlier restore had broken off."""

    made_at: str
    rows: int
    lost: list[str]
    epochs: dict[str, int]
    resumed: bool


def restore(
    settings: BackupSettings,
    folder: Path,
    *,
    replace: bool = False,
    accept_loss: bool = False,
    report: Report = silent,
) -> RestoreResult:
    """Bring a backup into a platform of which only Kafka and ClickHouse run, after `millrace init`.

    `replace`: empty tables that hold rows. `accept_loss`: restore although Kafka lost records that came after the
    backup. Raises RefusedError, then nothing was changed; RetryableError when ClickHouse or Kafka is away: the same
    call goes on where it broke off.
    """
    saved = manifest.read(folder)
    with ClickHouse(settings) as db:
        refuse_cluster(db, "millrace restore fills one server")
        topics.facts(settings, CONTROL, RAW)  # raises before `millrace init`
        now = topics.recorded(settings)
        resumed = journal.under_way(db) == saved.made_at
        decided = _check(db, saved, folder, may_hold_rows=replace or resumed)
        bounds = control.bounds(settings, {name: now[name] for name in _TELEMETRY if name in now})
        ends = {name: max(high for (topic, _), (_, high) in bounds.items() if topic == name) for name, _ in bounds}
        new = control.successors(saved.topics, now, ends)
        lost = control.lost(saved.topics, now, bounds)
        if lost and not accept_loss:
            lines = "\n".join(f"  {line}" for line in lost)
            raise RefusedError(
                f"Kafka no longer holds all records after the backup:\n{lines}\n--accept-loss restores without them"
            )
        control.forget_commits(settings, settings.sink_group)
        if now[CONTROL].topic_id != saved.topics[CONTROL].topic_id:
            report(Step("platform.control", control.restore(settings, decided, new), "records"))
        if not resumed:
            journal.begin(db, saved.made_at)
        _load(db, saved, folder, report)
        journal.end(db)
    rows = sum(file.rows for file in saved.files)
    return RestoreResult(saved.made_at, rows, lost, {name: facts.epoch for name, facts in new.items()}, resumed)


def _check(db: ClickHouse, saved: Manifest, folder: Path, may_hold_rows: bool) -> control.Records:
    """The control records of the backup. Raises RefusedError with everything that stands against a restore."""
    wrong = [*manifest.check(folder, saved), *_schema(db, saved)]
    wrong += [] if may_hold_rows else _full(db)
    decided: control.Records = {}
    try:
        decided = control.read(folder / manifest.CONTROL)
    except (OSError, ValueError, KeyError) as error:
        wrong.append(f"{manifest.CONTROL} cannot be read: {error!r}")
    if wrong:
        raise RefusedError("nothing was changed:\n" + "\n".join(f"  {line}" for line in wrong))
    return decided


def _schema(db: ClickHouse, saved: Manifest) -> Iterator[str]:
    there = tables.migrations(db)
    for name, checksum in saved.migrations.items():
        if there.get(name) != checksum:
            what = "lacks" if name not in there else "has another"
            yield f"database {db.database} {what} migration {name}: run `millrace init` of this or a newer version"
    known = {table.name for table in tables.tables(db)}
    for name in saved.tables:
        if name not in known and not tables.is_temporary(name):
            yield f"database {db.database} has no table {name}: run `millrace init` of this or a newer version"


def _full(db: ClickHouse) -> Iterator[str]:
    for table in tables.tables(db):
        rows = db.rows(f"SELECT count() FROM {table.name}")[0][0]
        if rows:
            yield f"{table.name} holds {rows:,} rows; --replace empties the tables first"


def _load(db: ClickHouse, saved: Manifest, folder: Path, report: Report) -> None:
    """Everything is emptied before anything is loaded; the ledger comes last: it must not claim what is not there."""
    done = journal.loaded(db)
    wanted = [table for table in tables.tables(db) if table.name not in done]
    for table in reversed(wanted):
        db.command(f"TRUNCATE TABLE {table.name}")
    for table in wanted:
        files = saved.tables.get(table.name, [])
        tables.load(db, table, files, folder, saved.made_at)
        if table.name == "presence_newest":
            tables.newest_presence(db)
        journal.note(db, saved.made_at, table.name)
        report(Step(table.name, sum(file.rows for file in files)))
