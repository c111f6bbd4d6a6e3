"""Addresses in settings: `host:port` to connect to, and `host:port` to listen on. IPv6 in brackets."""

import socket
from typing import Final

from runtime.errors import FatalError

LOOPBACK: Final = "127.0.0.1"


def split(text: str) -> tuple[str, int]:
    """(host, port) of `host:port` or `[IPv6]:port`; the host may be empty. Raises ValueError."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port.isdecimal() or not port.isascii():
        raise ValueError("expected host:port, as in 127.0.0.1:9100 or [::1]:9100")
    if int(port) > 65_535:
        raise ValueError(f"port {port}: a port is at most 65535")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    if ":" in host or "[" in host or "]" in host:
        raise ValueError(f"write an IPv6 address in brackets, as in [::1]:{port}")
    return host, int(port)


class Address:
    """The address of a server: `host:port`, port not 0. Raises ValueError on anything else."""

    def __init__(self, text: str) -> None:
        self.host, self.port = split(text)
        if not self.host or self.host == "*" or not self.port:
            raise ValueError("expected host:port of a server to connect to")
        self.text = text

    @classmethod
    def at(cls, host: str, port: int) -> "Address":
        """Of a host as URLs give it: IPv6 without brackets."""
        return cls(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    def __str__(self) -> str:
        return self.text


class Listen:
    """Where to listen: `host:port`. Port 0 chooses a free one, host `*` is every address, no host is the loopback.

    A name is resolved at once: it must be one of this machine's. Raises ValueError.
    """

    def __init__(self, text: str) -> None:
        host, self.port = split(text)
        self.host = {"": LOOPBACK, "*": "::" if socket.has_dualstack_ipv6() else "0.0.0.0"}.get(host, host)  # noqa: S104
        self.text = text
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError) as error:
            raise ValueError(f"{host!r} is not an address or name of this machine: {error}") from None
        self._family: int = found[0][0]

    def __str__(self) -> str:
        return self.text

    def open(self, backlog: int = 128) -> socket.socket:
        """A socket that listens there. Raises FatalError when it cannot, with the address and the reason."""
        both = self.host == "::" and socket.has_dualstack_ipv6()
        try:
            return socket.create_server(
                (self.host, self.port), family=self._family, backlog=backlog, dualstack_ipv6=both
            )
        except OSError as error:
            raise FatalError(f"cannot listen on {self.text}: {error.strerror or error}") from None
