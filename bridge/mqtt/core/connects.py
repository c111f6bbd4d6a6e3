"""Parses mosquitto's log: which device connected, and whose connection ended, and why.

mosquitto 2.0 reports it nowhere else (`log_dest topic`, `$SYS/broker/log/N`). A client chooses its id, and the id
stands in the line, so a line is taken only when all of it is as expected: an id such as `x disconnected.` must not end
the connection of x. Lines about anything else, or about ids that no device can have, are none of ours.
"""

import re
from typing import Final, NamedTuple

import orjson

from bridge.core.rows import Row, flags, row
from schemas.topics import DEVICE_ID, platform_topic
from schemas.vocabulary import Transport

MOST_BYTES: Final = 512
"""Longer lines are not looked at: an address, an id and a user name of 64 bytes each take less."""

# "2026-11-25T15:42:00: " or "1764085320: ", as log_timestamp_format has it; absent with log_timestamp false
_TIME: Final = rb"(?:[0-9T:-]{1,32}: )?"
_DEVICE: Final = f"({DEVICE_ID})".encode()
_CONNECTED: Final = re.compile(
    _TIME + rb"New client connected from ([^ ]{1,200}) as " + _DEVICE + rb" \(p\d, c\d, k\d{1,5}(?:, u'[^']*')?\)\."
).fullmatch
_ENDED: Final = re.compile(_TIME + rb"Client " + _DEVICE + rb" (.+)").fullmatch
_REASONS: Final = {
    b"disconnected.": "goodbye",
    b"closed its connection.": "closed",
    b"has exceeded timeout, disconnecting.": "timeout",
    b"disconnected due to malformed packet.": "malformed",
    b"disconnected due to protocol error.": "protocol",
    b"disconnected due to oversize packet.": "oversize",
    b"disconnected due to oversize payload.": "oversize",
    b"disconnected due to out of memory.": "memory",
    b"disconnected due to QoS too high or retain not supported.": "unsupported",
    b"disconnected due to using not allowed feature (QoS too high, retain not supported, or bad AUTH method).": (
        "unsupported"
    ),
    b"been disconnected by administrative action.": "kicked",
    b"disconnected: Connection reset by peer.": "closed",
    b"disconnected: Connection timed out.": "timeout",
    b"disconnected: Broken pipe.": "closed",
    b"disconnected: Protocol error.": "protocol",
}
"""All reasons that mosquitto 2.0 logs for the end of a connection, but `disconnected, not authorised.`: that may be a
client that only claimed to be the device."""


class ConnectionEvent(NamedTuple):
    """A connect or disconnect of a device. `detail`: the address of a connect, the reason of a disconnect."""

    device: str
    connected: bool
    detail: str


def parse(line: bytes) -> ConnectionEvent | None:
    """The connect or disconnect that a line reports; None when it reports none."""
    if len(line) > MOST_BYTES:
        return None
    found = _CONNECTED(line)
    if found is not None:
        return ConnectionEvent(found[2].decode(), True, found[1].decode("utf-8", "replace"))
    found = _ENDED(line)
    reason = None if found is None else _REASONS.get(found[2])
    return None if found is None or reason is None else ConnectionEvent(found[1].decode(), False, reason)


def platform_row(event: ConnectionEvent, received_at_ms: int) -> Row:
    """The row of telemetry.raw that reports it in band; see schemas/raw.py."""
    topic = platform_topic(event.device, "connected" if event.connected else "disconnected")
    payload = orjson.dumps({"address" if event.connected else "reason": event.detail})
    return row(event.device.encode(), topic.encode(), payload, None, flags(Transport.PLATFORM), received_at_ms)
