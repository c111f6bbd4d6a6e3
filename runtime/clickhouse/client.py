"""ClickHouse over HTTP: statements, rows, Arrow streams, inserts. Its errors arrive as RetryableError or FatalError."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Self

import clickhouse_connect
import pyarrow as pa

from runtime.clickhouse import streams
from runtime.clickhouse.errors import translated
from runtime.clickhouse.settings import ClickHouseSettings, endpoint

for _name in ("urllib3", "clickhouse_connect"):
    # they log every refused connection at length; callers that wait or retry log what it means
    logging.getLogger(_name).setLevel(logging.CRITICAL)

WHOLE_ROWS: Final = 1_048_576
"""Rows of the largest block that ClickHouse writes whole; a piece stays below."""

INSERT_SETTINGS: Final[Mapping[str, Any]] = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    # over a cluster: acknowledged when the shard has it, and there the majority of its replicas
    "distributed_foreground_insert": 1,
    "insert_quorum": "auto",
    "insert_quorum_timeout": 30_000,
    # the same rows must always make the same blocks, or their tokens would name other rows
    "max_threads": 1,
    "max_insert_threads": 1,
    "max_insert_block_size": WHOLE_ROWS,
    "min_insert_block_size_rows": WHOLE_ROWS,
    "min_insert_block_size_bytes": 1 << 30,
}
"""Of inserts with a deduplication token."""


class ClickHouse:
    """One connection pool; safe to use from several threads. A context manager closes it.

    Example:
        with ClickHouse(load(ClickHouseSettings)) as db:
            rows = db.rows("SELECT device, value FROM readings WHERE metric = {metric:String}", {"metric": "rpm"})
    """

    def __init__(
        self,
        settings: ClickHouseSettings,
        database: str | None = None,
        host: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Connect. `database` ("" for none), `host` and `timeout_s` override the settings. The password file is read
        now: a changed password needs a new connection. Raises RetryableError, FatalError."""
        server = endpoint(settings)
        host = host or server.host
        self.database = server.database if database is None else database
        with translated(f"ClickHouse at {host}:{server.port}"):
            secret = settings.clickhouse_password_file
            self.client = clickhouse_connect.get_client(
                host=host,
                port=server.port,
                secure=server.secure,
                username=server.user,
                password=secret.read_text().strip() if secret else server.password,
                database=self.database or "default",
                compress=False,
                autogenerate_session_id=False,
                connect_timeout=5,
                send_receive_timeout=timeout_s or settings.clickhouse_timeout_s,
            )

    def close(self) -> None:
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def command(self, sql: str, **settings: Any) -> None:
        """Run a statement that answers nothing."""
        with translated(sql[:60]):
            self.client.command(sql, settings=settings)

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a query. `{name:Type}` in it takes a parameter."""
        return self.table(sql, parameters)[1]

    def records(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Run a query; each row as a dictionary by column."""
        names, rows = self.table(sql, parameters)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def table(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> tuple[Sequence[str], list[tuple[Any, ...]]]:
        """Run a query; names of columns, and rows."""
        with translated(sql[:60]):
            found = self.client.query(sql, parameters=parameters)
            return found.column_names, [tuple(row) for row in found.result_rows]

    def raw(self, sql: str, form: str) -> bytes:
        """Run a query and return the whole answer in any format of ClickHouse's. An error of the server is raised even
        when it occurs after the first rows."""
        with translated(sql[:60]):
            return bytes(self.client.raw_query(sql, fmt=form, settings={"wait_end_of_query": 1}))

    def batches(
        self, sql: str, parameters: Mapping[str, Any] | None = None, strings: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """Stream a query's answer. `strings`: String columns as Arrow strings, else as binary.

        Yields one batch without rows where the answer has none, so that the schema is always known.
        Raises RetryableError or FatalError when the server breaks off or reports an exception behind valid batches:
        an iteration that ends has seen every row.
        """
        what = f"read {' '.join(sql.split())[:60]}"
        with translated(what):
            settings = {"output_format_arrow_string_as_string": int(strings)}
            answer = self.client.raw_stream(sql, parameters, settings, fmt="ArrowStream")
            yield from streams.arrow_batches(answer, what)

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert, or not if this token already did; returns when ClickHouse has it."""
        with translated(f"insert into {table}"):
            self.client.insert_arrow(table, rows, settings={**INSERT_SETTINGS, "insert_deduplication_token": token})
