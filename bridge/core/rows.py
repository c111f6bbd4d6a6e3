"""The row of a message on its way to Arrow: six items in a flat list, because a list of objects would cost more.

device, topic, payload (bytes), properties (Properties or None), flags (int), received_at (ms since 1970).
"""

from typing import Final, NamedTuple

from schemas.vocabulary import Transport

WIDTH: Final = 6
OVERHEAD_BYTES: Final = 96
"""What a row costs beside the bytes of its packet: offsets, fixed columns and the device once more."""


class Properties(NamedTuple):
    """What travels beside the payload, as UTF-8 text; None when absent. `ack` asks for end-to-end acknowledgement."""

    content_type: bytes | None = None
    ts: bytes | None = None
    boot: bytes | None = None
    seq: bytes | None = None
    ack: bool = False


Row = tuple[bytes, bytes, bytes, Properties | None, int, int]


def flags(transport: Transport, qos: int = 0, retain: bool = False) -> int:
    """Flags of a row: the low byte is laid out as the first byte of an MQTT PUBLISH, the transport is above it."""
    return transport << 8 | qos << 1 | int(retain)


def row(
    device: bytes, topic: bytes, payload: bytes, properties: Properties | None, flags: int, received_at_ms: int
) -> Row:
    """One message. The hot path of MQTT writes this tuple in place; it must stay in step."""
    return device, topic, payload, properties, flags, received_at_ms
