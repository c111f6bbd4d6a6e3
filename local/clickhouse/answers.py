"""One HTTP response: whole, streamed, or an error; an error in the middle of a stream is appended to it."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Final

from local.clickhouse import compression, formats
from local.clickhouse.engine import Result
from local.clickhouse.errors import ClickHouseError
from local.clickhouse.exchange import Disconnected, Exchange, Message
from runtime.tasks import cancel

Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_COUNTS: Final = dict.fromkeys(
    ("read_rows", "read_bytes", "written_rows", "written_bytes", "total_rows_to_read", "result_rows", "result_bytes"), 0
)


_SEND_WAIT_S: Final = 60.0
"""A client that takes nothing for so long is given up: its query holds a worker."""
_PART_BYTES: Final = 1 << 18


class Answer:
    """The response to one request. `started`: its head has left, an error can no longer have a status."""

    def __init__(self, exchange: Exchange, send: Send, timezone: str) -> None:
        self.started = False
        self._exchange = exchange
        self._send = send
        self._timezone = timezone
        self._tag = secrets.token_hex(8)
        self._began_ns = time.perf_counter_ns()

    async def text(self, status: int, body: bytes) -> None:
        await self._whole(status, [(b"content-type", b"text/plain; charset=UTF-8")], body)

    async def result(self, result: Result, form: str | None) -> None:
        """A whole answer; `form` None: no content, as after an INSERT or DDL."""
        headers = self._headers(form, result.summary)
        data = result.data
        if data and self._exchange.encoding:
            packer = compression.compressor(self._exchange.encoding)
            data = packer.compress(data) + packer.flush()
            headers.append((b"content-encoding", self._exchange.encoding.encode()))
        await self._whole(200, headers, data)

    async def stream(self, chunks: AsyncIterator[bytes], form: str, joiner: formats.Joiner) -> None:
        """Chunks as they come; stops the query when the client goes away."""
        async with aclosing(chunks):  # type: ignore[type-var]
            first = await anext(chunks, b"")  # an early error still has its own status
            encoding = self._exchange.encoding
            packer = compression.compressor(encoding)
            headers = self._headers(form, {})
            if encoding:
                headers.append((b"content-encoding", encoding.encode()))
            await self._head(200, headers)
            gone = asyncio.ensure_future(self._exchange.receive())  # completes when the client goes away
            try:
                await self._piece(packer.compress(joiner.join(first)))
                tail = await self._chunks(chunks, joiner, packer, gone)
            except ClickHouseError as error:
                # as the server does: the text between tags, and no end of the chunked body
                await self._piece(packer.compress(self._exception(error)) + packer.flush())
                raise
            finally:
                await cancel(gone)
            await self._send({"type": "http.response.body", "body": packer.compress(tail) + packer.flush()})

    async def _chunks(
        self,
        chunks: AsyncIterator[bytes],
        joiner: formats.Joiner,
        packer: compression.Compressor,
        gone: "asyncio.Future[Message]",
    ) -> bytes:
        async for chunk in chunks:
            if gone.done():
                break
            await self._piece(packer.compress(joiner.join(chunk)))
        return joiner.tail

    def _exception(self, error: ClickHouseError) -> bytes:
        text, tag = str(error).encode(), self._tag.encode()
        head = b"\r\n__exception__\r\n%b\r\n%b\n" % (tag, text)
        return head + b"%d %b\r\n__exception__\r\n" % (len(text) + 1, tag)

    async def error(self, error: ClickHouseError) -> None:
        """An error in place of an answer. A POST's connection is closed: its body may not be read to the end."""
        headers = [*self._common(), (b"content-type", b"text/plain; charset=UTF-8")]
        headers.append((b"x-clickhouse-exception-code", str(error.code).encode()))
        if self._exchange.method == "POST":
            headers.append((b"connection", b"close"))
        await self._whole(error.status, headers, f"{error}\n".encode())

    def _common(self) -> Headers:
        return [
            (b"x-clickhouse-query-id", self._exchange.query_id.encode()),
            (b"x-clickhouse-server-display-name", b"millrace-local"),
            (b"x-clickhouse-timezone", self._timezone.encode()),
            (b"x-clickhouse-exception-tag", self._tag.encode()),
        ]

    def _headers(self, form: str | None, summary: Mapping[str, int]) -> Headers:
        counts = _COUNTS | dict(summary) | {"elapsed_ns": time.perf_counter_ns() - self._began_ns}
        encoded = json.dumps({name: str(count) for name, count in counts.items()}, separators=(",", ":"))
        headers = [*self._common(), (b"x-clickhouse-summary", encoded.encode())]
        if form is None:
            return [*headers, (b"content-type", b"text/plain; charset=UTF-8")]
        kind = formats.content_type(form).encode()
        return [*headers, (b"x-clickhouse-format", form.encode()), (b"content-type", kind)]

    async def _whole(self, status: int, headers: Headers, body: bytes) -> None:
        await self._head(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self._piece(b"" if self._exchange.method == "HEAD" else body)
        await self._send({"type": "http.response.body", "body": b""})

    async def _head(self, status: int, headers: Headers) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _piece(self, data: bytes) -> None:
        """Send, in parts small enough that a client that reads at all takes one in time."""
        for at in range(0, len(data), _PART_BYTES):
            part = data[at : at + _PART_BYTES]
            try:
                async with asyncio.timeout(_SEND_WAIT_S):
                    await self._send({"type": "http.response.body", "body": part, "more_body": True})
            except TimeoutError:
                raise Disconnected from None
