"""Accepts connections of devices, and bounds them before a byte of them is read.

asyncio's own servers call a protocol only after the TLS handshake: connections that never finish it are counted nowhere
and live for a minute. Here the socket is accepted, counted, and only then handed to asyncio.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from bridge.core.connections import ConnectionLimits
from runtime.addresses import Listen
from runtime.lifecycle import guard
from runtime.retry import Attempts, RetryPolicy

log = logging.getLogger(__name__)

_BACKLOG: Final = 1024
HANDSHAKE_S: Final = 10.0
"""A device on a slow radio link needs some seconds for a handshake."""
_GOODBYE_S: Final = 5.0
"""How long a peer has to answer the end of TLS."""
_PAUSE: Final = RetryPolicy(first_s=0.05, longest_s=1.0, errors=(OSError,))

Make = Callable[[Callable[[], None]], asyncio.Protocol]
"""Makes the protocol of a connection, which calls the function once, in `connection_lost`."""


class Listener:
    """`refused` is called with each socket above the bound, which is closed afterwards; it must not block."""

    def __init__(
        self,
        listen: Listen,
        tls: ssl.SSLContext | None,
        limits: ConnectionLimits,
        make: Make,
        refused: Callable[[socket.socket], None],
        handshake_s: float = HANDSHAKE_S,
    ) -> None:
        self.port = 0
        self._listen, self._tls, self._limits, self._make, self._refused = listen, tls, limits, make, refused
        self._handshake_s = None if tls is None else handshake_s
        self._socket: socket.socket | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen. Raises FatalError when the address cannot be had."""
        self._socket = self._listen.open(_BACKLOG)
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]
        self._tasks.add(guard(self._accept_all(self._socket), "listener"))
        log.info("listening", extra={"host": self._listen.host, "port": self.port, "tls": self._tls is not None})

    async def stop(self) -> None:
        """Accept nothing more and break handshakes off. Connections that are served go on."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()

    async def _accept_all(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        attempts = Attempts("accepting connections", _PAUSE)
        while True:
            try:
                connection, peer = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno != errno.ECONNABORTED:  # most likely there are no file descriptors left
                    await asyncio.sleep(attempts.failed(error))
                continue
            attempts.succeeded()
            address = str(peer[0])
            if self._limits.enter(address, self._tls is not None):
                self._serve(connection, address)
            else:
                with connection:
                    self._refused(connection)

    def _serve(self, connection: socket.socket, address: str) -> None:
        loop, leave = asyncio.get_running_loop(), _Once(self._limits.leave)
        serving = loop.connect_accepted_socket(
            lambda: self._make(leave),
            connection,
            ssl=self._tls,
            ssl_handshake_timeout=self._handshake_s,
            ssl_shutdown_timeout=None if self._tls is None else _GOODBYE_S,
        )
        task = loop.create_task(serving)
        self._tasks.add(task)
        task.add_done_callback(partial(self._served, connection, address, leave))

    def _served(
        self, connection: socket.socket, address: str, leave: Callable[[], None], task: "asyncio.Task[Any]"
    ) -> None:
        """The connection has its protocol, or there is none. asyncio closes the socket of a handshake that failed."""
        self._tasks.discard(task)
        if self._tls is not None:
            self._limits.greeted(address)
        if task.cancelled():
            leave()
            connection.close()  # a task that was cancelled before it ran has not taken it
        elif (error := task.exception()) is not None:
            leave()
            level = logging.DEBUG if isinstance(error, OSError) else logging.ERROR  # ssl.SSLError is an OSError
            log.log(level, "no connection", extra={"address": address, "error": str(error)})


class _Once:
    """Calls a function the first time it is called itself."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()
