"""ClickHouse over HTTP: connect, ask, insert; its errors translated to policy."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError
from clickhouse_connect.driver.external import ExternalData
from urllib3.exceptions import HTTPError

from runtime.errors import RefusedError
from sinks.errors import translate
from sinks.settings import ClickHouseSettings

for _name in ("urllib3", "clickhouse_connect"):
    # they log every refused connection at length; what it means is said by whoever waits or tries again
    logging.getLogger(_name).setLevel(logging.CRITICAL)

WHOLE_ROWS: Final = 1_048_576
"""Rows of the largest block that ClickHouse writes whole; a piece stays below."""

_INSERT: Final[Mapping[str, Any]] = {
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


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise RetryableError or FatalError for whatever ClickHouse's client raises."""
    try:
        yield
    except ClickHouseError as error:
        raise translate(error, getattr(error, "code", None), what) from error
    except (HTTPError, OSError) as error:
        raise translate(error, None, what) from error


def _url(settings: ClickHouseSettings) -> SplitResult:
    url = urlsplit(settings.clickhouse_url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise RefusedError(f"MILLRACE_CLICKHOUSE_URL={settings.clickhouse_url!r}: expected http(s)://user@host:port/db")
    return url


def database_of(settings: ClickHouseSettings) -> str:
    """Name of the database: the path of the URL."""
    return _url(settings).path.strip("/") or "millrace"


class ClickHouse:
    """One connection pool; safe to use from several threads."""

    def __init__(self, settings: ClickHouseSettings, database: str | None = None, host: str | None = None) -> None:
        """Connect. `database` ("" for none) and `host` override those of the URL. Raises RetryableError, FatalError."""
        url = _url(settings)
        host = host or url.hostname
        self.database = database_of(settings) if database is None else database
        secret = settings.clickhouse_password_file
        with translated(f"ClickHouse at {host}:{url.port}"):
            self.client = clickhouse_connect.get_client(
                host=host,
                port=url.port or (8443 if url.scheme == "https" else 8123),
                secure=url.scheme == "https",
                username=unquote(url.username or "default"),
                password=secret.read_text().strip() if secret else unquote(url.password or ""),
                database=self.database or "default",
                compress=False,
                autogenerate_session_id=False,
                connect_timeout=5,
                send_receive_timeout=settings.clickhouse_timeout_s,
            )

    def close(self) -> None:
        self.client.close()

    def command(self, sql: str, **settings: Any) -> None:
        """Run a statement that answers nothing."""
        with translated(sql[:60]):
            self.client.command(sql, settings=settings)

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a query. `{name:Type}` in it takes a parameter."""
        with translated(sql[:60]):
            return [tuple(row) for row in self.client.query(sql, parameters=parameters).result_rows]

    def raw(self, sql: str, form: str) -> bytes:
        """Run a query and return its answer in any format of ClickHouse's."""
        with translated(sql[:60]):
            return bytes(self.client.raw_query(sql, fmt=form))

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert, or not if this token already did; returns when ClickHouse has it."""
        with translated(f"insert into {table}"):
            self.client.insert_arrow(table, rows, settings={**_INSERT, "insert_deduplication_token": token})

    def insert_missing(self, table: str, rows: pa.Table, token: str, name: Sequence[str], types: Sequence[str]) -> None:
        """Insert those of `rows` that the table does not hold; `name` are the columns that name a row for ever.

        The server judges, in one statement. `name` must begin with raw_epoch, raw_partition, raw_offset; all rows are
        of one raw partition. `types` are the ClickHouse types of the columns.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        structure = [f"{column} {kind}" for column, kind in zip(rows.column_names, types, strict=True)]
        data = ExternalData(
            file_name="incoming", data=sink.getvalue().to_pybytes(), fmt="ArrowStream", structure=structure
        )
        columns, names = ", ".join(rows.column_names), ", ".join(name)
        sql = (
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM incoming WHERE ({names}) NOT IN"
            f" (SELECT {names} FROM {table} WHERE raw_partition = {rows['raw_partition'][0].as_py()}"
            f" AND raw_offset BETWEEN {_bound(rows, min)} AND {_bound(rows, max)})"
        )
        with translated(f"insert what is missing into {table}"):
            settings = {**_INSERT, "insert_deduplication_token": token}
            self.client.command(sql, external_data=data, settings=settings)


def _bound(rows: pa.Table, which: Any) -> int:
    return int(which(rows["raw_offset"].to_numpy()))
