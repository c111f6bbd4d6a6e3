"""ClickHouse's tables as Parquet files, one for each table and monthly partition, and back."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from operations.backup import cut, manifest
from operations.backup.manifest import File
from runtime.clickhouse.client import ClickHouse
from runtime.errors import RefusedError, RetryableError
from sinks.core.logs import LOGS

GROUP_ROWS: Final = 200_000
"""Rows of a row group, which is loaded by one insert."""
_TRIES: Final = 3
_MARK: Final = "sum(cityHash64(tuple(*)))"


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the database has it."""

    name: str
    columns: frozenset[str]
    replacing: bool

    @property
    def source(self) -> str:
        return f"{self.name} FINAL" if self.replacing else self.name


def tables(db: ClickHouse) -> list[Table]:
    """Every table that holds rows of its own, those of the ledger last; what migrations did is not among them."""
    found = db.rows(
        "SELECT t.name, groupArray(c.name), any(t.engine LIKE '%Replacing%') FROM system.tables AS t"
        " JOIN system.columns AS c ON c.database = t.database AND c.table = t.name"
        " WHERE t.database = {database:String} AND t.engine LIKE '%MergeTree' AND t.name != 'migrations'"
        " GROUP BY t.name ORDER BY t.name",
        {"database": db.database},
    )
    known = [Table(name, frozenset(columns), bool(replacing)) for name, columns, replacing in found]
    return sorted(known, key=lambda table: table.name in cut.LEDGER)


def ends(db: ClickHouse) -> dict[str, cut.Cut]:
    """How far the ledger goes for each topic."""
    found: dict[str, cut.Cut] = {}
    for log in LOGS.values():
        only = f"WHERE topic = '{log.topic}'" if log.ledger.shared else ""
        rows = db.rows(
            f"SELECT raw_epoch, raw_partition, max(raw_offset) FROM {log.ledger.table} {only}"
            " GROUP BY raw_epoch, raw_partition"
        )
        found[log.topic] = {(epoch, partition): end for epoch, partition, end in rows}
    return found


def read_on(db: ClickHouse, cuts: dict[str, cut.Cut]) -> dict[str, dict[int, tuple[int, int]]]:
    """By topic and partition its epoch and the offset after the last record that is in."""
    found = {}
    for log in LOGS.values():
        ledger = log.ledger
        only = f"topic = '{log.topic}' AND" if ledger.shared else ""
        rows = db.rows(
            f"SELECT raw_partition, max(({ledger.epoch}, {ledger.offset})) AS last FROM {ledger.table}"
            f" WHERE {only} {cut.within(cuts[log.topic])} GROUP BY raw_partition"
        )
        found[log.topic] = {partition: (epoch, offset + 1) for partition, (epoch, offset) in rows}
    return found


def migrations(db: ClickHouse) -> dict[str, str]:
    """Those that were applied, and the checksum of each."""
    return dict(db.rows("SELECT name, checksum FROM migrations WHERE event = 'applied' ORDER BY name"))


def export(db: ClickHouse, table: Table, where: str, folder: Path) -> Iterator[File]:
    """Write the rows of a table that are in, a file a monthly partition."""
    months = db.rows(f"SELECT DISTINCT _partition_id FROM {table.name} WHERE {where} ORDER BY 1")
    for (month,) in months:
        path = folder / f"{table.name}.{month}.parquet"
        file = _month(db, table, f"{where} AND _partition_id = '{month}'", path)
        if file is not None:
            yield file


def _month(db: ClickHouse, table: Table, where: str, path: Path) -> File | None:
    """None where no row is in. Rows of a table in which newer ones replace them may go while it is read."""
    for _ in range(_TRIES):
        rows, mark = db.rows(f"SELECT count(), {_MARK} FROM {table.source} WHERE {where}")[0]
        if not rows:
            return None
        written = _write(db, f"SELECT * FROM {table.source} WHERE {where}", path)
        if written == rows or (written and table.replacing):
            size = path.stat().st_size
            known = None if table.replacing else int(mark)
            return File(path.name, size, manifest.sha256(path), table.name, written, known)
    raise RetryableError(
        f"{table.name}: {written:,} rows were read of {rows:,} counted, {_TRIES} times: rows go (retention, a mutation)"
        " while they are read. Try again when that is over"
    )


def _write(db: ClickHouse, sql: str, path: Path) -> int:
    """Stream an answer into a file; the number of rows. Raises MillraceError when the answer breaks off."""
    count, held, group = 0, 0, list[pa.RecordBatch]()
    writer: pq.ParquetWriter | None = None
    for batch in db.batches(sql):
        writer = writer or pq.ParquetWriter(path, batch.schema, compression="zstd")
        group.append(batch)
        count, held = count + batch.num_rows, held + batch.num_rows
        if held >= GROUP_ROWS:
            writer.write_table(pa.Table.from_batches(group), row_group_size=GROUP_ROWS)
            group, held = [], 0
    if writer is not None:
        if group:
            writer.write_table(pa.Table.from_batches(group), row_group_size=GROUP_ROWS)
        writer.close()
    return count


def load(db: ClickHouse, table: str, files: list[File], folder: Path, name: str) -> None:
    """Insert the rows of files; once, however often. `name` is the back-up's. Raises RefusedError if it is not the
    same afterwards."""
    for file in files:
        source = pq.ParquetFile(folder / file.path)
        for group in range(source.num_row_groups):
            rows = source.read_row_group(group)
            for piece, at in enumerate(range(0, rows.num_rows, GROUP_ROWS)):
                token = f"restore/{name}/{file.path}/{group}/{piece}"
                db.insert(table, rows.slice(at, GROUP_ROWS), token)
    _compare(db, table, files)


def _compare(db: ClickHouse, table: str, files: list[File]) -> None:
    marks = [file.mark for file in files if file.mark is not None]
    if len(marks) < len(files):
        return
    rows, mark = db.rows(f"SELECT count(), {_MARK} FROM {table}")[0]
    wanted = sum(file.rows for file in files), sum(marks) % (1 << 64)
    if (rows, int(mark)) != wanted:
        raise RefusedError(
            f"{table}: {rows:,} rows with mark {mark} are there after loading, the back-up holds {wanted[0]:,} with"
            f" mark {wanted[1]}: somebody else wrote, or retention takes rows already. Stop the sink, see"
            " MILLRACE_RETENTION_DAYS, and restore again with --replace"
        )


def newest_presence(db: ClickHouse) -> None:
    """The newest change of each device was left out where it is of after the cut; what was before it is in presence."""
    columns = "device, state, reason, since, time, last_seen, expected_s, flaps, publisher"
    columns += ", raw_epoch, raw_partition, raw_offset, row, append_time, stored_at"
    db.command(
        f"INSERT INTO presence_newest ({columns}) SELECT {columns} FROM presence"
        " ORDER BY device, time DESC, raw_offset DESC LIMIT 1 BY device",
        insert_deduplicate=0,
    )
