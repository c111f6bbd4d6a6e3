"""ClickHouse's tables as Parquet files, one for each table and monthly partition, and back."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from operations.backup import cut, journal, manifest
from operations.backup.manifest import File
from operations.correct import phases as correct
from operations.rebuild import work as rebuild
from runtime.clickhouse.client import ClickHouse
from runtime.errors import RefusedError, RetryableError
from sinks.stored import sources

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
    """Every table that holds rows of its own, those of the ledger last. Not among them: what migrations did, and what
    other operations keep for a while."""
    found = db.rows(
        "SELECT t.name, groupArray(c.name), any(t.engine LIKE '%Replacing%') FROM system.tables AS t"
        " JOIN system.columns AS c ON c.database = t.database AND c.table = t.name"
        " WHERE t.database = {database:String} AND t.engine LIKE '%MergeTree' AND t.name != 'migrations'"
        " GROUP BY t.name ORDER BY t.name",
        {"database": db.database},
    )
    known = [Table(name, frozenset(columns), bool(replacing)) for name, columns, replacing in found]
    kept = [table for table in known if not is_temporary(table.name)]
    return sorted(kept, key=lambda table: table.name in cut.LEDGER)


def is_temporary(table: str) -> bool:
    """Whether an operation made it for its own use."""
    return table in (correct.NEW, journal.TABLE) or table.endswith((rebuild.INTO, rebuild.ASIDE))


def refuse_unfinished(db: ClickHouse) -> None:
    """Raise RefusedError while readings are there twice, because a correction runs or broke off, and while a restore
    is not finished."""
    left = correct.unfinished(db)
    if left is not None:
        raise RefusedError(
            f"the correction of {left[0].correction} is running or was interrupted: readings are stored twice until"
            " it ends. Wait for it, or run `millrace correct` again, which completes it; then back up"
        )
    name = journal.under_way(db)
    if name is not None:
        raise RefusedError(f"the restore of the backup of {name} is not finished: run it again, then back up")


def ends(db: ClickHouse) -> dict[str, cut.Cut]:
    """How far the ledger goes for each topic."""
    found: dict[str, cut.Cut] = {}
    for log in sources().values():
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
    for log in sources().values():
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
    """None where no row is in. Rows of a table in which newer ones replace them may go, or come, while it is read."""
    for _ in range(_TRIES):
        rows, mark = _count(db, table, where)
        if not rows:
            return None
        written = write(db, f"SELECT * FROM {table.source} WHERE {where}", path)
        if written == rows or (table.replacing and _between(written, rows, _count(db, table, where)[0])):
            size = path.stat().st_size
            known = None if table.replacing else int(mark)
            return File(path.name, size, manifest.sha256(path), table.name, written, known)
    raise RetryableError(
        f"{table.name}: {written:,} rows were read of {rows:,} counted, {_TRIES} times: rows are deleted"
        " (retention, a mutation) while they are read. Run the backup again later"
    )


def _count(db: ClickHouse, table: Table, where: str) -> tuple[int, int]:
    """Rows, and the sum of their hashes."""
    rows, mark = db.rows(f"SELECT count(), {_MARK} FROM {table.source} WHERE {where}")[0]
    return int(rows), int(mark)


def _between(written: int, before: int, after: int) -> bool:
    """The number only falls (a device's newest change is beyond the cut now) or only rises (hours were added)."""
    return min(before, after) <= written <= max(before, after)


def write(db: ClickHouse, sql: str, path: Path) -> int:
    """Stream an answer into a Parquet file; the number of rows.

    Raises RetryableError or FatalError where the answer breaks off, in its middle too, and leaves no file then.
    """
    try:
        count = _write(db, sql, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return count


def _write(db: ClickHouse, sql: str, path: Path) -> int:
    count, waiting, group = 0, 0, list[pa.RecordBatch]()
    batches = db.batches(sql)
    first = next(batches)
    with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        for batch in chain([first], batches):
            group.append(batch)
            count, waiting = count + batch.num_rows, waiting + batch.num_rows
            if waiting >= GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(group), row_group_size=GROUP_ROWS)
                group, waiting = [], 0
        if waiting:
            writer.write_table(pa.Table.from_batches(group), row_group_size=GROUP_ROWS)
    return count


def load(db: ClickHouse, table: Table, files: list[File], folder: Path, name: str) -> None:
    """Insert the rows of files; once, however often. `name` is the backup's. Raises RefusedError where the table does
    not hold them afterwards."""
    for file in files:
        source = pq.ParquetFile(folder / file.path)
        for group in range(source.num_row_groups):
            rows = source.read_row_group(group)
            for piece, at in enumerate(range(0, rows.num_rows, GROUP_ROWS)):
                token = f"restore/{name}/{file.path}/{group}/{piece}"
                db.insert(table.name, rows.slice(at, GROUP_ROWS), token)
    compare(db, table, files)


def compare(db: ClickHouse, table: Table, files: list[File]) -> None:
    """Raise RefusedError where a table does not hold what files do: rows and sums of hashes, or where newer rows
    replace older ones at least as many rows (ClickHouse itself may have added hours meanwhile)."""
    rows, mark = _count(db, table, "true")
    wanted = sum(file.rows for file in files)
    if table.replacing or any(file.mark is None for file in files):
        right, detail = rows >= wanted, ""
    else:
        total = sum(file.mark or 0 for file in files) % (1 << 64)
        right, detail = (rows, mark) == (wanted, total), f" (sums of hashes {mark} and {total})"
    if not right:
        raise RefusedError(
            f"{table.name} holds {rows:,} rows after loading, the backup {wanted:,}{detail}: another client"
            " wrote into it, or retention already deletes rows. Stop the sink, check MILLRACE_RETENTION_DAYS, and"
            " run the restore again"
        )


def newest_presence(db: ClickHouse) -> None:
    """The newest change of each device was left out where it is of after the cut; what was before it is in presence."""
    columns = "device, state, reason, since, time, last_seen, expected_s, flaps, publisher"
    columns += ", raw_epoch, raw_partition, raw_offset, row, append_time, stored_at"
    db.command(
        f"INSERT INTO presence_newest ({columns}) SELECT {columns} FROM presence"
        " ORDER BY device, time DESC, raw_epoch DESC, raw_offset DESC, row DESC LIMIT 1 BY device",
        insert_deduplicate=0,
    )
