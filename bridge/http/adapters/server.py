"""aiohttp's low-level server with bounds: connections, idle time, and a stop that finishes what is in flight."""

import asyncio
import logging
import ssl
from typing import Final

from aiohttp import web

from bridge.http import metrics
from bridge.http.adapters.endpoint import Endpoint
from bridge.http.settings import HttpSettings

log = logging.getLogger(__name__)

_READ_BYTES: Final = 32 << 10
"""What aiohttp buffers of a body that nobody reads, a connection."""
_LINGER_S: Final = 5.0
"""How long the rest of a refused body is read and dropped, so that the client sees the answer."""
_TEXT: Final = b'{"error":"too many connections; try again later"}'
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nServer: millrace\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_TEXT), _TEXT)
)


class _Full(asyncio.Protocol):
    """Answers a connection above the bound without reading it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        metrics.REFUSED.inc()
        transport.write(_FULL)
        transport.close()


class Server:
    """Listens for devices. Started last and stopped first: it is what lets work in."""

    def __init__(self, settings: HttpSettings, endpoint: Endpoint, tls: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._tls = tls
        self._http = web.Server(
            endpoint.handle,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=settings.idle_timeout_s,
            lingering_time=_LINGER_S,
            read_bufsize=_READ_BYTES,
            logger=_quiet(),
        )
        self._listener: asyncio.Server | None = None
        self.port = 0
        metrics.CONNECTIONS.set_function(lambda: len(self._http.connections))

    async def start(self) -> None:
        address = self._settings.listen
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._accept, address.host, address.port, ssl=self._tls, backlog=1024)
        self.port = self._listener.sockets[0].getsockname()[1]
        log.info("listening", extra={"host": address.host, "port": self.port, "tls": self._tls is not None})

    async def stop(self) -> None:
        """Accept nothing more, answer what is in flight, then close."""
        if self._listener is None:
            return
        self._listener.close()
        self._http.pre_shutdown()
        await self._http.shutdown(self._settings.drain_s)

    def _accept(self) -> asyncio.Protocol:
        if len(self._http.connections) >= self._settings.max_connections:
            return _Full()
        return self._http()


def _quiet() -> logging.Logger:
    """aiohttp logs a traceback for each request that is no HTTP; the open internet sends nothing else all day."""
    logger = logging.getLogger("bridge.http.aiohttp")
    logger.setLevel(logging.CRITICAL)
    return logger
