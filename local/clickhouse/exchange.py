"""One HTTP request: who asks, which statement, with which settings, and the data that follow it."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qsl

from local.clickhouse import compression, errors, external, sql
from local.clickhouse.errors import ClickHouseError
from local.clickhouse.sql import Kind, Statement

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

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
        self.query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        self.query_id = self.query.get("query_id") or str(uuid.uuid4())
        self.sql = b""
        self.external: list[external.External] = []
        self._body = self._decompressed()
        self._first = b""

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

    async def statement(self) -> Statement:
        """The statement: in the query string, in the body, or begun in one and continued in the other."""
        content_type = self.headers.get("content-type", "")
        if content_type.startswith("multipart/form-data"):
            body = b"".join([piece async for piece in self._body])
            self.external = external.parse(body, content_type, self.query)
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
        """What an INSERT brings: the rest of the statement, then the rest of the body."""
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
                yield _decompress(decompressor, b"".join(waiting))
                waiting, size = [], 0
        if waiting:
            yield _decompress(decompressor, b"".join(waiting))

    async def _received(self) -> AsyncIterator[bytes]:
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body"):
                return


def _decompress(decompressor: compression.Decompressor, data: bytes) -> bytes:
    try:
        return decompressor.decompress(data)
    except compression.BROKEN as error:
        raise ClickHouseError(f"Cannot decompress the body: {error}. (CANNOT_DECOMPRESS)", 271) from None
