"""One request: check the device, the message and the budget; then add it to the batch and wait for Kafka.

Everything that can be refused is refused before the body is read, and the body is read only while there is room for it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final

import orjson
from aiohttp import StreamReader, web

from bridge.core.rows import Properties, flags
from bridge.http import metrics
from bridge.http.core import encodings, formats, stamps
from bridge.http.core.credentials import Credentials
from bridge.http.core.limits import DeviceLimits
from bridge.http.core.route import Telemetry, resolve
from bridge.http.errors import Refusal, broken, too_large, unavailable
from bridge.http.settings import HttpSettings
from bridge.writer import Writer
from schemas.topics import telemetry_topic
from schemas.vocabulary import Transport

log = logging.getLogger(__name__)

Reserve = Callable[[int], None]
"""Takes so many bytes of the budget; raises Refusal 503 when there are none."""
SINGLE: Final = ("Authorization", "Content-Type", "Content-Encoding", stamps.BOOT, stamps.SEQ, stamps.TS)
"""Headers that may occur once: of two, a proxy between us and the device may have read the other."""
FAULT: Final = "this is our fault; send it again, with the same boot and seq it counts once"
_FLAGS: Final = flags(Transport.HTTP)
_JSON: Final = "application/json"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Endpoint:
    """Answers requests. `pages` are the bodies of the documentation, by path, with their content types; `is_current`
    says whether `credentials` have every change that a command reported as done."""

    def __init__(
        self,
        settings: HttpSettings,
        writer: Writer,
        credentials: Credentials,
        pages: dict[str, tuple[bytes, str]],
        is_current: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._bounds = settings.bounds()
        self._writer = writer
        self._intake = writer.intake
        self._credentials = credentials
        self._pages = pages
        self._is_current = is_current
        self._limits = DeviceLimits(settings.device_requests, settings.device_requests_per_s, settings.device_burst_s)
        self._reading_bytes = 0
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._loop = asyncio.get_running_loop()
        metrics.READING.set_function(lambda: self._reading_bytes)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to any request; nothing a client sends raises."""
        begun_s = self._loop.time()
        self._requests += 1
        self._idle.clear()
        try:
            response = await self._safe_answer(request)
        finally:
            self._requests -= 1
            if not self._requests:
                self._idle.set()
        if self._draining:
            response.force_close()
        metrics.answered(response.status)
        metrics.DURATION.observe(self._loop.time() - begun_s)
        return response

    async def drain(self, timeout_s: float) -> None:
        """Wait until no request is in flight. Connections are closed with their next answer from now on."""
        self._draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()

    async def _safe_answer(self, request: web.BaseRequest) -> web.Response:
        try:
            return await self._answer(request)
        except Refusal as refusal:
            return respond(refusal.status, refusal.body(), refusal.headers)
        except Exception:
            log.exception("request failed")
            return respond(500, {"error": FAULT})

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        asked = resolve(request.method, request.raw_path)
        if not isinstance(asked, Telemetry):
            body, content_type = self._pages[asked]
            return web.Response(body=body, content_type=content_type, charset="utf-8", headers=_SERVER)
        _check_twins(request)
        if not self._credentials.allow(asked.device, request.headers.get("Authorization")):
            if not self._is_current():  # 401 makes a device stop: answer it only with a current registry
                raise unavailable("the registry of devices is not up to date")
            raise Refusal(401, "unknown device, or not its token", {"WWW-Authenticate": 'Bearer realm="millrace"'})
        self._limits.enter(asked.device, self._loop.time())
        try:
            return await self._take(asked, request)
        finally:
            self._limits.leave(asked.device)

    async def _take(self, asked: Telemetry, request: web.BaseRequest) -> web.Response:
        form = formats.parse_type(request.headers.get("Content-Type", ""))
        stamped = stamps.parse(request.headers)
        count, acknowledged = await self._receive(asked, request, form, stamped)
        try:
            async with asyncio.timeout(self._settings.ack_timeout_s):
                await acknowledged
        except TimeoutError:
            raise unavailable(
                "Kafka has not acknowledged in time; send it again, with the same boot and seq it counts once"
            ) from None
        return respond(202, {"messages": count})

    async def _receive(
        self, asked: Telemetry, request: web.BaseRequest, form: formats.Format, stamped: stamps.Stamps
    ) -> "tuple[int, asyncio.Future[None]]":
        """Number of messages, and a future that ends when Kafka holds them. The body lives no longer than this call."""
        with self._reserved() as reserve:
            body = await self._read(request, reserve)
            encoding = request.headers.get("Content-Encoding", "")
            body = encodings.decode(encoding, body, self._bounds.decoded_bytes)
            payloads = form.split(body, self._bounds)
            self._check_room(len(body))
        return len(payloads), self._put(asked, payloads, stamps.properties(stamped, form.row_type, len(payloads)))

    async def _read(self, request: web.BaseRequest, reserve: Reserve) -> bytes:
        """The body as sent. The budget counts what has arrived, so a large Content-Length alone blocks nothing."""
        limit = self._bounds.body_bytes
        if (request.content_length or 0) > limit:
            raise too_large(f"the body has {request.content_length} bytes; at most {limit}")
        self._check_room(request.content_length or 0)
        await _continue(request)
        content = request.content
        if content.is_eof() and content.exception() is None:
            body = content.read_nowait()  # it came together with its headers, as small ones do
            if len(body) > limit:
                raise too_large(f"the body is longer than {limit} bytes")
            reserve(len(body))
        else:
            body = await self._read_on(content, limit, reserve)
        metrics.BODY.inc(len(body))
        return body

    async def _read_on(self, content: StreamReader, limit: int, reserve: Reserve) -> bytes:
        chunks: list[bytes] = []
        total = 0
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                while chunk := await content.readany():
                    total += len(chunk)
                    if total > limit:
                        raise too_large(f"the body is longer than {limit} bytes")
                    reserve(len(chunk))
                    chunks.append(chunk)
        except TimeoutError:
            raise Refusal(408, "the body did not come in time", {"Connection": "close"}) from None
        except (web.PayloadAccessError, web.RequestPayloadError, ConnectionError) as error:
            raise broken(f"the body cannot be read: {error}") from None
        return b"".join(chunks)

    def _put(self, asked: Telemetry, payloads: list[bytes], properties: list[Properties]) -> "asyncio.Future[None]":
        topic = telemetry_topic(asked.device, asked.channel).encode()
        extend, device = self._intake.route(topic)
        now_ms = time.time_ns() // 1_000_000
        for payload, found in zip(payloads, properties, strict=True):
            extend((device, topic, payload, found, _FLAGS, now_ms))
        acknowledged = self._loop.create_future()
        self._intake.open.done.append(partial(_end, acknowledged))
        self._writer.added(len(payloads), sum(map(len, payloads)))
        return acknowledged

    def _check_room(self, more_bytes: int) -> None:
        """Raises Refusal 503 when what is held, read and announced would exceed the budget, or Kafka is silent."""
        intake = self._intake
        if intake.paused or intake.held_bytes + self._reading_bytes + more_bytes > intake.limits.budget_bytes:
            raise unavailable("the bridge's buffer is full; send it again later")
        if intake.closed and self._loop.time() - intake.closed[0].closed_at_s > self._settings.stall_s:
            raise unavailable("Kafka does not answer; send it again later")

    @contextmanager
    def _reserved(self) -> Iterator[Reserve]:
        """Yields a function that takes so many bytes of the budget; all are given back at the end."""
        taken = 0

        def reserve(size_bytes: int) -> None:
            nonlocal taken
            self._check_room(size_bytes)
            taken += size_bytes
            self._reading_bytes += size_bytes

        try:
            yield reserve
        finally:
            self._reading_bytes -= taken


_SERVER: Final = {"Server": "millrace"}


def respond(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(body), content_type=_JSON, headers=_SERVER | headers if headers else _SERVER
    )


def _check_twins(request: web.BaseRequest) -> None:
    for name in SINGLE:
        if len(request.headers.getall(name, ())) > 1:
            raise broken(f"header {name} is given twice")


async def _continue(request: web.BaseRequest) -> None:
    """Answer 100 to a client that asked first (Expect: 100-continue)."""
    expect = request.headers.get("Expect")
    if expect is None:
        return
    if expect.lower() != "100-continue":
        raise Refusal(417, "only Expect: 100-continue is known")
    await request.writer.write(_CONTINUE)
    request.writer.output_size = 0


def _end(acknowledged: "asyncio.Future[None]") -> None:
    if not acknowledged.done():
        acknowledged.set_result(None)
