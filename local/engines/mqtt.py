"""What the platform itself says to the broker over its unix socket."""

import socket
from pathlib import Path
from typing import Final, NoReturn

from local.programs import ProgramError
from runtime.mqtt import Connack, Connect, Suback, Subscribe, Subscription, decode, encode, encoding, split

_TIMEOUT_S: Final = 5.0
_NEVER_EXPIRES: Final = {"session_expiry_interval": 0xFFFFFFFF}
"""Subscribed as the bridge asks (QoS 1, retain as published, retained ones only once): mosquitto never changes a
subscription."""


def answers(path: Path) -> bool:
    """Whether the broker listens there."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(0.5)
        try:
            connection.connect(str(path))
        except OSError:
            return False
        return True


def make_session(path: Path, client: str, user: str, password: str, topic_filter: str) -> None:
    """Make a session that never expires and is subscribed at QoS 1, and leave. Raises ProgramError when refused."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_TIMEOUT_S)
        connection.connect(str(path))
        hello = Connect(client, False, username=user, password=password.encode(), properties=_NEVER_EXPIRES)
        _exchange(connection, hello)
        _exchange(
            connection, Subscribe(1, (Subscription(topic_filter, 1, retain_as_published=True, retain_handling=1),))
        )
        connection.sendall(encoding.DISCONNECT)


def disconnect(path: Path, client: str, user: str, password: str) -> None:
    """End the connection and the session of a client: one id has one connection, so the broker drops the one before.
    Raises ProgramError, OSError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_TIMEOUT_S)
        connection.connect(str(path))
        _exchange(connection, Connect(client, True, username=user, password=password.encode()))
        connection.sendall(encoding.DISCONNECT)


def _exchange(connection: socket.socket, packet: Connect | Subscribe) -> None:
    """Send a packet and read its answer."""
    connection.sendall(encode(packet))
    data = b""
    packets: list[tuple[int, bytes]] = []
    while not packets:
        data += connection.recv(4096) or _end()
        packets, _ = split(data)
    answer = decode(*packets[0])
    if not (isinstance(answer, Connack) and not answer.reason) and not (
        isinstance(answer, Suback) and answer.reasons[0] < 0x80
    ):
        raise ProgramError(f"the broker refused the bridge's session: {answer}")


def _end() -> NoReturn:
    raise ProgramError("the broker closed the connection of the bridge's session")
