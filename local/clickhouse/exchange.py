"""One HTTP request: who asks, which statement, with which settings, and the data that follow it."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qsl

from local.clickhouse import compression, errors, external, sql
from local.clickhouse.errors import ClickHouseError
from local.clickhouse.sql import Kind, Statement

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

STATEMENT_BYTES: Final = 120_000
"""Of a reader; ClickHouse's max_query_size, 256 KiB, holds it twice."""
_OWNERS_STATEMENT_BYTES: Final = 16 << 20
_WHOLE_BYTES: Final = 1 << 30
"""Of a body with tables of its own (external data), which is held as a whole."""
BODY_WAIT_S: Final = 60.0
"""A body of which nothing more comes for so long is given up."""
_MOST_FIELDS: Final = 1_000

_HOP_BYTES: Final = 1 << 20
"""Bodies go to the engine's thread in pieces of at least this size: fewer, larger hops."""
_HEAD_BYTES: Final = 1 << 16
"""How much of a body is read to find where a leading INSERT ends and its data begin."""

_NOT_SETTINGS: Final = frozenset(
    (
        *("query", "database", "default_format", "query_id", "user", "password", "quota_key", "role", "compress"),
        *("session_id", "session_timeout", "session_check", "close_session", "buffer_size", "wait_end_of_query"),
        *("client_protocol_version", "enable_http_compression", "add_http_cors_header", "stacktrace"),
        *("send_progress_in_http_headers", "http_headers_progress_interval_ms"),
        *("cancel_http_readonly_queries_on_client_close", "http_write_exception_in_output_format"),
    )
)
"""Words of the query string that are no settings of the engine."""


class Disconnected(Exception):
    """The client went away."""


class Exchange:
    """A request as it came. `statement()` first, then `data()` for what an INSERT brings."""

    def __init__(self, scope: Mapping[str, Any], receive: Receive) -> None:
        self.receive = receive
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers = {name.decode().lower(): value.decode("latin1") for name, value in scope["headers"]}
        self.query: dict[str, str] = {}
        self.query_id = str(uuid.uuid4())
        self._query_string: bytes = scope["query_string"]
        self.sql = b""
        self.external: list[external.External] = []
        self._body = self._decompressed()
        self._most = STATEMENT_BYTES
        self._unpacked = 0
        self._first = b""

    def read_query(self) -> None:
        """Take the query string apart. Raises ClickHouseError."""
        self.query = _query(self._query_string)
        self.query_id = self.query.get("query_id") or self.query_id

    @property
    def has_body(self) -> bool:
        return "content-length" in self.headers or "transfer-encoding" in self.headers

    @property
    def database(self) -> str | None:
        return self.query.get("database") or self.headers.get("x-clickhouse-database")

    @property
    def wants_whole(self) -> bool:
        """The client waits for the end of the query, so that an error has its own status."""
        return self.query.get("wait_end_of_query") == "1"

    @property
    def encoding(self) -> str | None:
        """Content-Encoding that the response may have."""
        asked = self.query.get("enable_http_compression") in ("1", "true")
        return compression.choose(self.headers.get("accept-encoding", "")) if asked else None

    def format_of(self, statement: Statement) -> str:
        asked = self.headers.get("x-clickhouse-format") or self.query.get("default_format")
        return statement.format or asked or "TabSeparated"

    def settings(self) -> dict[str, str]:
        if "compress" in self.query or "decompress" in self.query:
            raise errors.unsupported("ClickHouse's own block compression; use Content-Encoding: lz4 or zstd")
        return {k: v for k, v in self.query.items() if k not in _NOT_SETTINGS and not k.startswith("param_")}

    def parameters(self) -> dict[str, str]:
        return {k.removeprefix("param_"): v for k, v in self.query.items() if k.startswith("param_")}

    async def readers_statement(self) -> str:
        """The statement of a user who only reads: all of the body, which brings no data."""
        if self.headers.get("content-type", "").startswith("multipart/form-data"):
            await self._multipart()
        self.sql = self.query.get("query", "").encode()
        await self._read()
        if len(self.sql) > STATEMENT_BYTES:
            raise errors.too_large(f"The statement is larger than {STATEMENT_BYTES} bytes")
        return self.sql.decode("utf-8", "replace")

    async def _multipart(self) -> None:
        body = b"".join([piece async for piece in self._body])
        self.external = external.parse(body, self.headers["content-type"], self.query)

    async def statement(self) -> Statement:
        """The statement: in the query string, in the body, or begun in one and continued in the other."""
        self._most = _OWNERS_STATEMENT_BYTES
        if self.headers.get("content-type", "").startswith("multipart/form-data"):
            self._most = _WHOLE_BYTES
            await self._multipart()
        self.sql = self.query.get("query", "").encode()
        in_body = not self.sql.strip()
        if in_body:
            await self._read(_HEAD_BYTES)
        found = sql.classify(self.sql)
        if found.kind is not Kind.INSERT:
            await self._read()
            return sql.classify(self.sql)
        if found.data_at is not None:
            self._first = self.sql[found.data_at :]
        return found

    async def data(self) -> AsyncIterator[bytes]:
        """What an INSERT brings: the rest of the statement, then the rest of the body, in pieces; the engine bounds
        what it keeps."""
        self._most = sys.maxsize
        if self._first:
            yield self._first
        async for piece in self._body:
            if piece:
                yield piece

    async def _read(self, enough: int | None = None) -> None:
        if enough is not None and len(self.sql) >= enough:
            return
        async for piece in self._body:
            self.sql += piece
            if enough is not None and len(self.sql) >= enough:
                return

    async def _decompressed(self) -> AsyncIterator[bytes]:
        decompressor = compression.decompressor(self.headers.get("content-encoding", ""))
        waiting: list[bytes] = []
        size = 0
        async for piece in self._received():
            waiting.append(piece)
            size += len(piece)
            if size >= _HOP_BYTES:
                for unpacked in self._bounded(decompressor, b"".join(waiting)):
                    yield unpacked
                waiting, size = [], 0
        if waiting:
            for unpacked in self._bounded(decompressor, b"".join(waiting)):
                yield unpacked

    def _bounded(self, decompressor: compression.Decompressor, data: bytes) -> Iterator[bytes]:
        try:
            for piece in decompressor.pieces(data):
                self._unpacked += len(piece)
                if self._unpacked > self._most:
                    raise errors.too_large(f"The body is larger than {self._most} bytes")
                yield piece
        except compression.BROKEN as error:
            raise ClickHouseError(f"Cannot decompress the body: {error}. (CANNOT_DECOMPRESS)", 271) from None

    async def _received(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(BODY_WAIT_S):
                    message = await self.receive()
            except TimeoutError:
                raise errors.slow(f"nothing of the body came for {BODY_WAIT_S:.0f} s") from None
            if message["type"] == "http.disconnect":
                raise Disconnected
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body"):
                return


def _query(text: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(text.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError as error:
        raise ClickHouseError(f"Bad query string: {error}. (BAD_ARGUMENTS)", 36) from None
