"""Taking a backup: what is read in which order, so that no moment of failure leaves a folder that looks whole."""

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from operations.backup import control, cut, manifest, tables
from operations.backup.manifest import File, Manifest, Topic
from operations.backup.settings import BackupSettings
from operations.progress import Report, Step, silent
from runtime.clickhouse.client import ClickHouse
from runtime.errors import RefusedError
from runtime.kafka import topics
from sinks.stored import refuse_cluster

PARTIAL: Final = ".partial"
"""Suffix of the folder until everything is in it."""


@dataclass(frozen=True, slots=True)
class BackupResult:
    """A folder that can be restored: `rows` and `tables` of ClickHouse, `bytes` of all files, `made_at` in UTC."""

    folder: Path
    made_at: str
    tables: int
    rows: int
    bytes: int


def backup(settings: BackupSettings, folder: Path, report: Report = silent) -> BackupResult:
    """Write ClickHouse's tables and platform.control into a new folder, while the platform works.

    `report` is called for each table that is written. The folder is called FOLDER.partial until its manifest, which is
    written last, is on disk. Raises RefusedError where the folder exists or the tables are in no state to be backed up,
    RetryableError when ClickHouse or Kafka is away or breaks off.
    """
    if folder.exists():
        raise RefusedError(f"{folder} exists already: each backup needs a folder of its own")
    partial = folder.with_name(folder.name + PARTIAL)
    with ClickHouse(settings) as db:
        refuse_cluster(db, "millrace backup copies one server")
        tables.refuse_unfinished(db)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700, parents=True)
        made = _write(db, settings, partial, report)
    (partial / manifest.NAME).write_bytes(made.encode())
    for path in (*partial.iterdir(), partial):
        _to_disk(path)
    partial.rename(folder)
    _to_disk(folder.parent)
    size, rows = sum(file.bytes for file in made.files), sum(file.rows for file in made.files)
    return BackupResult(folder, made.made_at, len(made.tables), rows, size)


def _write(db: ClickHouse, settings: BackupSettings, folder: Path, report: Report) -> Manifest:
    """The cut first: whatever the sink writes meanwhile lies above it. Operators' decisions last: they may be newer."""
    made_at, cuts = datetime.now(UTC).isoformat(timespec="seconds"), cut.cuts(tables.ends(db))
    read_on, migrations = tables.read_on(db, cuts), tables.migrations(db)
    files: list[File] = []
    for table in tables.tables(db):
        some = list(tables.export(db, table, cut.condition(table.name, set(table.columns), cuts), folder))
        report(Step(table.name, sum(file.rows for file in some)))
        files += some
    known = {
        name: Topic(facts.topic_id, facts.epoch, facts.partitions, read_on.get(name, {}))
        for name, facts in topics.recorded(settings).items()
    }
    path = folder / manifest.CONTROL
    records = control.decided(settings)
    control.write(path, records)
    files.append(File(path.name, path.stat().st_size, manifest.sha256(path), records=len(records)))
    return Manifest(made_at, migrations, known, files)


def _to_disk(path: Path) -> None:
    """A manifest on disk must not name files that a power cut took."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
