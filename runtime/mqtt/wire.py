"""The basic types of MQTT (MQTT 5.0, 1.5) and the frame of a packet (2.1)."""

from enum import IntEnum
from typing import Final

from runtime.errors import MillraceError

V311: Final = 4
V5: Final = 5
"""Protocol levels as CONNECT carries them."""
MAX_PACKET_ID: Final = 65_535
MAX_REMAINING: Final = 268_435_455
"""The longest body of a packet, and the greatest variable byte integer."""
_MAX_TEXT: Final = 65_535


class MalformedPacketError(MillraceError):
    """Bytes that are no MQTT packet. The connection cannot go on: the start of the next packet is unknown."""


class UnsupportedVersionError(MalformedPacketError):
    """A CONNECT of a protocol that is neither MQTT 3.1.1 nor 5.0; `level` is what it asks for."""

    def __init__(self, name: bytes, level: int) -> None:
        super().__init__(f"protocol {name[:20]!r} of level {level}; supported are MQTT 3.1.1 and 5.0")
        self.level = level


class PacketType(IntEnum):
    """The upper four bits of a packet's first byte."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


_SHORT: Final = [bytes((n,)) if n < 128 else bytes((n & 127 | 128, n >> 7)) for n in range(16_384)]


def varint(number: int) -> bytes:
    """A variable byte integer. Raises ValueError above MAX_REMAINING."""
    if number < 16_384:
        return _SHORT[number]
    if number > MAX_REMAINING:
        raise ValueError(f"no MQTT packet is {number} bytes long")
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def binary(value: bytes) -> bytes:
    """Bytes with their length before them. Raises ValueError when they are too long."""
    if len(value) > _MAX_TEXT:
        raise ValueError(f"{len(value)} bytes; MQTT's texts have at most {_MAX_TEXT}")
    return len(value).to_bytes(2, "big") + value


def text(value: str) -> bytes:
    return binary(value.encode())


def two(number: int) -> bytes:
    return number.to_bytes(2, "big")


def packet(first: int, body: bytes) -> bytes:
    """A packet of its first byte and its body."""
    return bytes((first,)) + varint(len(body)) + body


def read_varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """(number, position after it).

    Raises IndexError when its end is not there, MalformedPacketError at a fifth byte.
    """
    number = data[at]
    if number < 128:
        return number, at + 1
    number &= 127
    for shift in (7, 14, 21):
        at += 1
        more = data[at]
        number |= (more & 127) << shift
        if more < 128:
            return number, at + 1
    raise MalformedPacketError("a variable byte integer has more than four bytes")


def frame(data: bytes | bytearray, at: int = 0) -> tuple[int, int] | None:
    """(start of body, end) of the packet at `at`; None while its header is incomplete. The end may lie beyond `data`.

    Raises MalformedPacketError.
    """
    try:
        size, start = read_varint(data, at + 1)
    except IndexError:
        return None
    return start, start + size


def split(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """((first byte, body) of each whole packet, what is left). Raises MalformedPacketError."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while (borders := frame(data, at)) is not None and borders[1] <= len(data):
        start, end = borders
        found.append((data[at], data[start:end]))
        at = end
    return found, data[at:]


class Reader:
    """Reads the body of a packet. Every method raises MalformedPacketError where the body ends too early."""

    __slots__ = ("at", "data", "end", "what")

    def __init__(self, data: bytes, what: str, at: int = 0, end: int | None = None) -> None:
        self.data, self.what, self.at, self.end = data, what, at, len(data) if end is None else end

    def take(self, size: int) -> bytes:
        at, self.at = self.at, self.at + size
        if self.at > self.end:
            raise MalformedPacketError(f"{self.what} ends too early")
        return self.data[at : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def varint(self) -> int:
        try:
            number, self.at = read_varint(self.data, self.at)
        except IndexError:
            raise MalformedPacketError(f"{self.what} ends too early") from None
        if self.at > self.end:
            raise MalformedPacketError(f"{self.what} ends too early")
        return number

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def utf8(self) -> bytes:
        """A text as bytes, checked."""
        value = self.binary()
        self._decoded(value)
        return value

    def text(self) -> str:
        return self._decoded(self.binary())

    def packet_id(self) -> int:
        found = self.number(2)
        if not found:
            raise MalformedPacketError(f"{self.what} has packet id 0")
        return found

    def rest(self) -> bytes:
        return self.take(self.end - self.at)

    @property
    def more(self) -> bool:
        return self.at < self.end

    def done(self) -> None:
        """Raises MalformedPacketError when something is left."""
        if self.more:
            raise MalformedPacketError(f"{self.what} has {self.end - self.at} bytes too many")

    def _decoded(self, value: bytes) -> str:
        try:
            found = value.decode()
        except UnicodeDecodeError:
            raise MalformedPacketError(f"{self.what} has a text that is not UTF-8") from None
        if "\0" in found:
            raise MalformedPacketError(f"{self.what} has a text with U+0000")
        return found
