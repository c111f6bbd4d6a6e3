"""Properties of an MQTT 5 PUBLISH (MQTT 5.0, 3.3.2.3) to what a raw row keeps of them.

A faster reading of the same table as runtime/mqtt/properties.py, for bytes that a broker has checked already: texts are
neither decoded nor checked here. tests/bridge/test_properties.py holds the two together.
"""

from typing import Final

from bridge.core.rows import Properties
from runtime.mqtt.properties import BY_NAME, TABLE, Kind
from runtime.mqtt.wire import MalformedPacketError, PacketType, read_varint

_FIXED_BYTES: Final = {
    one.id: one.kind.value for one in TABLE if PacketType.PUBLISH in one.packets and isinstance(one.kind.value, int)
}
"""Payload format, message expiry, topic alias: of no use here, of known length."""
_TEXTS: Final = frozenset(
    one.id for one in TABLE if PacketType.PUBLISH in one.packets and one.kind in (Kind.TEXT, Kind.BINARY)
)
_CONTENT_TYPE: Final = BY_NAME["content_type"].id
_SUBSCRIPTION: Final = BY_NAME["subscription_identifier"].id
_USER: Final = BY_NAME["user_property"].id
_USER_KEYS: Final = {b"ts": 1, b"boot": 2, b"seq": 3}
_REPEATS_BYTES: Final = 256
_SEQ: Final = b"\x26\x00\x03seq\x00"
"""The beginning of the user property seq whose value is shorter than 256 bytes."""
_NOTHING: Final = [None, None, None, None]
_UNKNOWN: Final = Properties(b"unknown")
_MALFORMED: Final = (ValueError, IndexError, MalformedPacketError)


def parse(block: bytes) -> Properties | None:
    """The properties that count, None when there are none of them. Of a duplicate key the last value counts.

    Raises ValueError, IndexError or MalformedPacketError on a block that is not a list of properties.
    """
    found: list[bytes | None] = [None, None, None, None]
    ack = False
    at, end = 0, len(block)
    while at < end:
        kind = block[at]
        if kind == _USER:  # in place: this is what costs when every message brings its own seq
            start = at + 3
            at = start + (block[at + 1] << 8 | block[at + 2])
            key = block[start:at]
            position = _USER_KEYS.get(key)
            start = at + 2
            at = start + (block[at] << 8 | block[at + 1])
            if position is not None:
                found[position] = block[start:at]
            elif key == b"ack":
                ack = block[start:at] == b"1"
        elif kind in _TEXTS:
            value, at = _text(block, at + 1)
            if kind == _CONTENT_TYPE:
                found[0] = value
        elif kind in _FIXED_BYTES:
            at += 1 + _FIXED_BYTES[kind]
        elif kind == _SUBSCRIPTION:
            _, at = read_varint(block, at + 1)
        else:
            raise ValueError(f"unknown property 0x{kind:02x}")
    if at != end:
        raise ValueError("a property is longer than its block")
    if not ack and found == _NOTHING:
        return None
    return Properties(found[0], found[1], found[2], found[3], ack)


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    start = at + 2
    end = start + (block[at] << 8 | block[at + 1])
    return block[start:end], end


class PropertyCache:
    """`cache.get(block)` is parse(block), remembered for the blocks that repeat: content types, not sequence numbers.

    At most `size` blocks of at most 256 bytes are kept. A malformed block counts as none (`malformed` counts them): the
    message itself is intact, and what it should have said cannot be known.
    """

    def __init__(self, size: int = 10_000) -> None:
        self.malformed = 0
        self._size = size
        self._known: dict[bytes, Properties | None] = {}

    def get(self, block: bytes) -> Properties | None:
        known = self._known.get(block, _UNKNOWN)
        if known is not _UNKNOWN:
            return known
        try:
            return self._ending_in_seq(block) or self._remember(block)
        except _MALFORMED:
            self.malformed += 1
            return None

    def _ending_in_seq(self, block: bytes) -> Properties | None:
        """The usual block of a device that numbers its messages: what repeats, then seq. None for any other."""
        before, _, value = block.rpartition(_SEQ)
        if not value or value[0] != len(value) - 1 or len(value) == len(block):
            return None
        found = self._known.get(before, _UNKNOWN)
        if found is _UNKNOWN:
            try:
                found = self._remember(before)
            except _MALFORMED:  # these bytes stand inside another property
                return None
        if found is None:
            return Properties(None, None, None, value[1:])
        return Properties(found[0], found[1], found[2], value[1:], found[4])

    def _remember(self, block: bytes) -> Properties | None:
        found = parse(block)
        if (found is None or (found.seq is None and found.ts is None)) and len(block) <= _REPEATS_BYTES:
            if len(self._known) >= self._size:
                self._known.clear()
            self._known[block] = found
        return found
