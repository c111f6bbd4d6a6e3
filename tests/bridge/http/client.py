"""What a device's firmware would do: plain HTTP, and a raw socket for what no library would send."""

import contextlib
import http.client
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

JSON = "application/json"
NDJSON = "application/x-ndjson"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Device:
    """A device with a token, on one connection that is kept alive."""

    def __init__(self, port: int, name: str, token: str, timeout_s: float = 30.0) -> None:
        self.port = port
        self.name = name
        self.token = token
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def post(
        self, body: Any, kind: str | None = JSON, channel: str = "climate", path: str | None = None, **headers: str
    ) -> Answer:
        """Header names are given with underscores. `body` may be an iterator of bytes: it is sent in chunks."""
        named = {"Authorization": f"Bearer {self.token}"} | ({} if kind is None else {"Content-Type": kind})
        named |= {key.replace("_", "-"): value for key, value in headers.items()}
        return self.ask("POST", path or self.path(channel), body, named)

    def path(self, channel: str = "climate") -> str:
        return f"/v1/devices/{self.name}/telemetry/{channel}"

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        try:
            self._connection.request(method, path, body, dict(headers or {}))
            answer = self._connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        except BaseException:
            self._connection.close()
            raise

    def raw(self, head: str, body: bytes = b"") -> bytes:
        """Send these very bytes on a connection of their own and read until it is closed."""
        lines = head.replace("\n", "\r\n").encode("latin-1")
        with self.connect() as sock, contextlib.suppress(ConnectionError):
            sock.sendall(lines + b"\r\n\r\n" + body)
            return read_all(sock)
        return b""

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def head(self, *more: str, channel: str = "climate") -> str:
        """A request head that closes the connection afterwards."""
        lines = [f"POST {self.path(channel)} HTTP/1.1", "Host: x", "Connection: close"]
        return "\n".join([*lines, f"Authorization: Bearer {self.token}", *more])


def read_all(sock: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := sock.recv(65_536):
            found += part
    return found


def status_of(answer: bytes) -> int:
    """Status of the last answer in what a raw connection gave back; 0 for none."""
    at = answer.rfind(b"HTTP/1.1 ")
    return int(answer[at + 9 : at + 12]) if at >= 0 else 0
