"""The few bytes of Kafka's protocol that the supervisor itself speaks: does a broker answer, and to whom?

Kafka's own clients take seconds to say that a broker is not there, and leave threads behind.
"""

import hashlib
import hmac
import secrets
import socket
import struct
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

TIMEOUT_S: Final = 0.5
_METADATA, _HANDSHAKE, _AUTHENTICATE = (3, 1), (17, 1), (36, 0)
"""(API, version)"""
_NO_TOPICS: Final = b"\x00\x00\x00\x00"
_HASH: Final = "sha512"


@dataclass(frozen=True, slots=True)
class Login:
    """Who the probe is: `mechanism` is PLAIN or SCRAM-SHA-512."""

    mechanism: str
    user: str
    password: str


class ProbeError(Exception):
    """The broker refuses, or its answer is none of Kafka's."""


def brokers(host: str, port: int, login: Login | None) -> int:
    """How many brokers the one on this port knows: 0 while it does not answer, refuses the login or is on its way."""
    try:
        with socket.create_connection((host, port), TIMEOUT_S) as connection:
            connection.settimeout(TIMEOUT_S)
            if login is not None:
                _log_in(connection, login)
            return int.from_bytes(_ask(connection, _METADATA, _NO_TOPICS)[:4], "big", signed=True)
    except (OSError, ProbeError, ValueError, IndexError, struct.error):
        return 0


def _log_in(connection: socket.socket, login: Login) -> None:
    answer = _ask(connection, _HANDSHAKE, _string(login.mechanism.encode()))
    _check(answer)

    def say(data: bytes) -> bytes:
        answer = _ask(connection, _AUTHENTICATE, len(data).to_bytes(4, "big") + data)
        _check(answer)
        skip = 4 + max(0, struct.unpack_from(">h", answer, 2)[0])  # error code, error message
        return answer[skip + 4 :]

    if login.mechanism == "PLAIN":
        say(f"\0{login.user}\0{login.password}".encode())
    else:
        _scram(login, say)


def _scram(login: Login, say: Callable[[bytes], bytes]) -> None:
    """RFC 5802. Raises ProbeError when the server does not know the password either."""
    first = f"n={login.user},r={secrets.token_hex(16)}"
    theirs = say(f"n,,{first}".encode()).decode()
    fields = dict(part.split("=", 1) for part in theirs.split(","))
    key = _salted(login.password, b64decode(fields["s"]), int(fields["i"]))
    client = hmac.digest(key, b"Client Key", _HASH)
    final = f"c=biws,r={fields['r']}"
    signed = f"{first},{theirs},{final}".encode()
    signature = hmac.digest(hashlib.new(_HASH, client).digest(), signed, _HASH)
    proof = b64encode(bytes(a ^ b for a, b in zip(client, signature, strict=True))).decode()
    answer = say(f"{final},p={proof}".encode())
    if answer != b"v=" + b64encode(hmac.digest(hmac.digest(key, b"Server Key", _HASH), signed, _HASH)):
        raise ProbeError("the server on Kafka's port is not this platform's Kafka")


@lru_cache(maxsize=16)
def _salted(password: str, salt: bytes, rounds: int) -> bytes:
    return hashlib.pbkdf2_hmac(_HASH, password.encode(), salt, rounds)


def _ask(connection: socket.socket, api: tuple[int, int], body: bytes) -> bytes:
    """The answer to a request, without length and correlation id."""
    request = struct.pack(">hhih", *api, 1, -1) + body
    connection.sendall(len(request).to_bytes(4, "big") + request)
    return _receive(connection, int.from_bytes(_receive(connection, 4), "big"))[4:]


def _receive(connection: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        more = connection.recv(min(count - len(found), 65_536))
        if not more:
            raise ProbeError("the broker closed the connection")
        found += more
    return bytes(found)


def _check(answer: bytes) -> None:
    code = struct.unpack_from(">h", answer)[0]
    if code:
        raise ProbeError(f"Kafka's error code {code}")


def _string(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text
