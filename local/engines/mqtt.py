"""The few bytes of MQTT 5 that the platform itself speaks over the broker's unix socket."""

import socket
from pathlib import Path
from typing import Final

from local.programs import ProgramError

_TIMEOUT_S: Final = 5.0
_NEVER_EXPIRES: Final = b"\x05\x11\xff\xff\xff\xff"
_OPTIONS: Final = b"\x19"
"""QoS 1, retain as published, retained ones only once: as the bridge asks. mosquitto never changes a subscription."""
_CONNACK: Final = 0x20
_SUBACK: Final = 0x90


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
        # user name and password, no clean start
        head = b"\x00\x04MQTT\x05\xc0\x00\x00" + _NEVER_EXPIRES
        _exchange(connection, b"\x10", head + _text(client) + _text(user) + _text(password), _CONNACK)
        _exchange(connection, b"\x82", b"\x00\x01\x00" + _text(topic_filter) + _OPTIONS, _SUBACK)
        connection.sendall(b"\xe0\x00")


def _exchange(connection: socket.socket, kind: bytes, body: bytes, expected: int) -> None:
    connection.sendall(kind + _length(len(body)) + body)
    answer = connection.recv(4096)
    # CONNACK: type, length, flags, reason; SUBACK: type, length, id, id, properties, reason last
    reason = answer[3] if expected == _CONNACK else answer[-1] & 0x80
    if len(answer) < 5 or answer[0] != expected or reason:
        raise ProgramError(f"the broker refused the bridge's session: {answer.hex()}")


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def _length(number: int) -> bytes:
    out = bytearray()
    while True:
        number, digit = divmod(number, 128)
        out.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(out)
