"""aiohttp's low-level server with bounds: connections, idle time, and a stop that finishes what is in flight."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from aiohttp import web

from bridge.core.connections import ConnectionLimits
from bridge.http import metrics
from bridge.http.adapters.endpoint import FAULT, Endpoint, respond
from bridge.http.settings import HttpSettings
from bridge.listener import HANDSHAKE_S, Listener

log = logging.getLogger(__name__)

_READ_BYTES: Final = 32 << 10
"""What aiohttp buffers of a body that nobody reads, a connection."""
_LINGER_S: Final = 2.0
_BACKLOG: Final = 1_024
"""How long the rest of a refused body is read and dropped, so that the client sees the answer."""
_TEXT: Final = b'{"error":"too many connections; try again later"}'
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nServer: millrace\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_TEXT), _TEXT)
)


class _Handler(web.RequestHandler):
    """Answers in our words what is no HTTP, and what fails outside the endpoint. aiohttp's words are a traceback."""

    __slots__ = ("lost",)
    lost: Callable[[], None]

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.lost()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500:
            log.error("request failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a response was already started")
        text = (message or "not HTTP").partition("\n")[0][:200]
        metrics.answered(status)
        answer = respond(status, {"error": text if status < 500 else FAULT})
        answer.force_close()
        return answer


class Server:
    """Listens for devices. Started last and stopped first: it is what lets work in."""

    def __init__(self, settings: HttpSettings, endpoint: Endpoint, tls: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._tls = tls
        self._http = web.Server(endpoint.handle)
        self._limits = ConnectionLimits(settings.max_connections)
        self._listener = Listener(
            settings.listen,
            tls,
            self._limits,
            self._protocol,
            self._refuse,
            handshake_s=min(HANDSHAKE_S, settings.idle_timeout_s),
        )
        metrics.CONNECTIONS.set_function(lambda: self._limits.open)

    @property
    def port(self) -> int:
        return self._listener.port

    async def start(self) -> None:
        await self._listener.start()

    async def stop(self) -> None:
        """Accept nothing more, answer what is in flight, then close. What takes longer than `drain_s` is cut off."""
        await self._listener.stop()
        await self._endpoint.drain(self._settings.drain_s)  # aiohttp's own stop would drop bodies still on their way
        self._http.pre_shutdown()
        await self._http.shutdown(_LINGER_S)

    def _protocol(self, lost: Callable[[], None]) -> asyncio.Protocol:
        no_log: Any = None  # aiohttp takes None, its annotation does not
        handler = _Handler(
            self._http,
            loop=asyncio.get_running_loop(),
            access_log=no_log,
            auto_decompress=False,
            keepalive_timeout=self._settings.idle_timeout_s,
            lingering_time=_LINGER_S,
            read_bufsize=_READ_BYTES,
        )
        handler.lost = lost
        return handler

    def _refuse(self, connection: socket.socket) -> None:
        """Answer a connection above the bound without reading it; where TLS would come first, just close it."""
        metrics.REFUSED.inc()
        if self._tls is None:
            with suppress(OSError):
                connection.send(_FULL)
