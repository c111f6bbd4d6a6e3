"""MQTT 5 as bytes: the packets that a device sends, and how to find the ends of those it gets."""

from typing import Final, NamedTuple

CONNACK: Final = 0x20
PUBLISH: Final = 0x30
PUBACK: Final = 0x40
SUBACK: Final = 0x90
PINGRESP: Final = 0xD0
DISCONNECT: Final = 0xE0

PINGREQ: Final = b"\xc0\x00"
GOODBYE: Final = b"\xe0\x00"
DUP: Final = 0x08
MAX_PACKET_ID: Final = 65_535


_SHORT: Final = [bytes((n,)) if n < 128 else bytes((n & 127 | 128, n >> 7)) for n in range(16_384)]


class PacketError(ValueError):
    """Bytes that are no MQTT packet."""


class Publication(NamedTuple):
    """A message to be published. `topic` with its length (see `text`), `properties` encoded, without their length;
    `name` (boot, seq) when end-to-end acknowledgement is awaited."""

    topic: bytes
    properties: bytes
    payload: bytes
    name: tuple[int, int] | None = None


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def varint(number: int) -> bytes:
    """MQTT's variable byte integer."""
    if number < 16_384:
        return _SHORT[number]
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def user_property(key: bytes, value: bytes) -> bytes:
    return b"\x26" + text(key) + text(value)


def content_type(value: bytes) -> bytes:
    return b"\x03" + text(value)


def connect(client: bytes, keep_alive_s: int, session_expiry_s: int) -> bytes:
    """CONNECT with a session that outlives the connection for a while; not clean, so that a resend is one."""
    properties = b"\x11" + session_expiry_s.to_bytes(4, "big")
    body = b"\x00\x04MQTT\x05\x00" + keep_alive_s.to_bytes(2, "big") + varint(len(properties)) + properties
    return _packet(0x10, body + text(client))


def subscribe(packet_id: int, topic_filter: bytes) -> bytes:
    """SUBSCRIBE at QoS 1."""
    return _packet(0x82, packet_id.to_bytes(2, "big") + b"\x00" + text(topic_filter) + b"\x01")


def publish(topic: bytes, packet_id: bytes, properties: bytes, payload: bytes) -> bytes:
    """PUBLISH at QoS 1. Arguments as in Publication."""
    if not properties:
        size = len(topic) + 3 + len(payload)
        return b"2%b%b%b\0%b" % (varint(size) if size > 16_383 else _SHORT[size], topic, packet_id, payload)
    before = varint(len(properties))
    size = len(topic) + 2 + len(before) + len(properties) + len(payload)
    return b"".join((b"2", varint(size), topic, packet_id, before, properties, payload))


def again(packet: bytes) -> bytes:
    """The same PUBLISH, marked as a resend."""
    return bytes((packet[0] | DUP,)) + packet[1:]


def puback(packet_id: bytes) -> bytes:
    return b"\x40\x02" + packet_id


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + varint(len(body)) + body


def split(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """((first byte, body) of each whole packet, what is left). Raises PacketError."""
    found: list[tuple[int, bytes]] = []
    start = 0
    while len(data) - start >= 2:
        size, at, shift = 0, start + 1, 0
        while at < len(data) and data[at] & 128:
            size |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if shift > 21:
                raise PacketError("remaining length is longer than four bytes")
        if at == len(data):
            break
        size |= data[at] << shift
        end = at + 1 + size
        if end > len(data):
            break
        found.append((data[start], data[at + 1 : end]))
        start = end
    return found, data[start:]


def receive_maximum(connack: bytes) -> int:
    """How many unacknowledged messages the broker takes, by the body of its CONNACK."""
    at, end = 3, 3 + connack[2] if len(connack) > 2 else 0
    while at < end:
        key = connack[at]
        if key == 0x21:
            return int.from_bytes(connack[at + 1 : at + 3], "big")
        at = _after(connack, at)
    return MAX_PACKET_ID


_SIZES: Final = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}
"""Sizes of the fixed properties of a CONNACK by their key; those with text are two bytes of length and the text."""


def _after(body: bytes, at: int) -> int:
    key = body[at]
    if key in _SIZES:
        return at + 1 + _SIZES[key]
    for _ in range(2 if key == 0x26 else 1):
        at += 2 + int.from_bytes(body[at + 1 : at + 3], "big")
    return at + 1


def published(first: int, body: bytes) -> tuple[bytes, bytes | None, bytes]:
    """(topic, packet id or None at QoS 0, payload) of a PUBLISH that came in. Raises PacketError."""
    try:
        at = 2 + int.from_bytes(body[:2], "big")
        topic, packet_id = body[2:at], None
        if first & 0x06:
            packet_id, at = body[at : at + 2], at + 2
        size = shift = 0
        while body[at] & 128:
            size |= (body[at] & 127) << shift
            at, shift = at + 1, shift + 7
        size |= body[at] << shift
        return topic, packet_id, body[at + 1 + size :]
    except IndexError:
        raise PacketError("PUBLISH ends too early") from None
