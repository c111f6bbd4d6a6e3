"""The sink's tables in ClickHouse: what they hold of a partition, and inserts that are made exactly once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pyarrow as pa
from clickhouse_connect.driver.external import ExternalData

from runtime.clickhouse.client import INSERT_SETTINGS, ClickHouse
from runtime.clickhouse.errors import translated
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.errors import FatalError, RefusedError
from runtime.stage.provenance import START, Highest
from sinks.core.inserts import Insert
from sinks.core.logs import Log
from sinks.core.start import LedgerEnd

_UNKNOWN: Final = frozenset({16, 60, 81})
"""ClickHouse's codes NO_SUCH_COLUMN_IN_TABLE, UNKNOWN_TABLE, UNKNOWN_DATABASE."""


@contextmanager
def _tables_there() -> Iterator[None]:
    """Raise RefusedError where a table is missing: a restart would meet the same."""
    try:
        yield
    except FatalError as error:
        if getattr(error.__cause__, "code", None) not in _UNKNOWN:
            raise
        raise RefusedError(
            f"{error}. A table or column is missing: `millrace doctor` names it, `millrace rebuild TABLE` creates it"
            " again and fills it with what Kafka still holds, `millrace init` creates it empty"
        ) from error


class Tables:
    """Connects when first used, so that a sink may start before ClickHouse. Safe to use from several threads."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._db: ClickHouse | None = None
        self._types: dict[str, dict[str, str]] = {}

    @property
    def db(self) -> ClickHouse:
        """The connection. Raises RetryableError while ClickHouse is away."""
        if self._db is None:
            self._db = ClickHouse(self._settings)
        return self._db

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    def insert(self, insert: Insert, check: bool) -> None:
        """Returns when ClickHouse holds all rows. With `check` it leaves out those that are there already."""
        with _tables_there():
            if not check:
                self.db.insert(insert.table, insert.rows, insert.token)
                return
            types = self._column_types(insert.table)
            columns = [types.get(column, "String") for column in insert.rows.column_names]
            _insert_missing(self.db, insert.table, insert.rows, insert.token, insert.names, columns)

    def _column_types(self, table: str) -> dict[str, str]:
        if not self._types.get(table):
            found = self.db.rows(
                "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String}",
                {"database": self.db.database, "table": table},
            )
            self._types[table] = {str(name): str(kind) for name, kind in found}
        return self._types[table]

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        with _tables_there():
            return self.db.rows(sql)

    def ledger_end(self, log: Log, partition: int) -> LedgerEnd | None:
        """The furthest row that the ledger has of a partition of a topic."""
        ledger = log.ledger
        of_topic, key = (f"topic = '{log.topic}' AND", "topic DESC,") if ledger.shared else ("", "")
        found = self._rows(
            f"SELECT raw_epoch, raw_offset, {ledger.epoch}, {ledger.offset}, toUnixTimestamp64Milli({ledger.time})"
            f" FROM {ledger.table} WHERE {of_topic} raw_partition = {partition} ORDER BY {key} raw_epoch DESC,"
            " raw_partition DESC, intDiv(raw_offset, 1024) DESC, raw_offset DESC LIMIT 1"
        )
        return LedgerEnd(Highest(*found[0][:2]), *found[0][2:]) if found else None

    def furthest(self, log: Log, epoch: int, partition: int, ledger: Highest) -> Highest:
        """The furthest raw record of which any table of the topic holds a row, given how far the ledger goes.

        Rows go before the ledger's, so only what is beyond the ledger has to be looked for.
        """
        found = [ledger]
        for beyond in {Highest(ledger.epoch, ledger.src), Highest(epoch, -1)}:
            if beyond != START and beyond >= ledger:
                found += [self._beyond(table, partition, beyond) for table in log.tables]
        return max(found)

    def _beyond(self, table: str, partition: int, after: Highest) -> Highest:
        rows = self._rows(
            f"SELECT count(), max(raw_offset) FROM {table} WHERE raw_partition = {partition}"
            f" AND raw_epoch = {after.epoch} AND raw_offset >= {after.src + 1}"
        )
        return Highest(after.epoch, rows[0][1]) if rows[0][0] else START


def _insert_missing(
    db: ClickHouse, table: str, rows: pa.Table, token: str, name: Sequence[str], types: Sequence[str]
) -> None:
    """Insert those of `rows` that the table does not hold; `name` are the columns that identify a row.

    The server judges, in one statement. `name` must begin with raw_epoch, raw_partition, raw_offset; all rows are
    of one raw partition. `types` are the ClickHouse types of the columns.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    structure = [f"{column} {kind}" for column, kind in zip(rows.column_names, types, strict=True)]
    data = ExternalData(file_name="incoming", data=sink.getvalue().to_pybytes(), fmt="ArrowStream", structure=structure)
    columns, names = ", ".join(rows.column_names), ", ".join(name)
    sql = (
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM incoming WHERE ({names}) NOT IN"
        f" (SELECT {names} FROM {table} WHERE raw_partition = {rows['raw_partition'][0].as_py()}"
        f" AND raw_offset BETWEEN {_bound(rows, min)} AND {_bound(rows, max)})"
    )
    with translated(f"insert what is missing into {table}"):
        settings = {**INSERT_SETTINGS, "insert_deduplication_token": token}
        db.client.command(sql, external_data=data, settings=settings)


def _bound(rows: pa.Table, which: Any) -> int:
    return int(which(rows["raw_offset"].to_numpy()))
