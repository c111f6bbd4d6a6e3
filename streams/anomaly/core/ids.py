"""Ids of incidents: pure functions of what they are about, so that a replay gives the same, and so that the parts of a
group's incident from several partitions have one id and merge where they are read."""

import hashlib
from typing import Final

from schemas.aggregates import DEVICE

SLOT_MS: Final = 3_600_000
"""Partitions that notice a shift within the same hour of stream time give it the same id."""


def of_series(device: str, channel: str, metric: str, detector: str, opened_ms: int) -> int:
    """Id of an incident of one series."""
    return _digest(DEVICE, device, channel, metric, detector, str(opened_ms))


def of_group(field: str, subject: str, channel: str, metric: str, now_ms: int) -> int:
    """Id of a group's incident that opens now. No metric: its devices fell silent."""
    return _digest(field, subject, channel, metric, "", str(now_ms // SLOT_MS))


def text(number: int) -> str:
    """As text: 16 hex digits."""
    return f"{number:016x}"


def _digest(*parts: str) -> int:
    # no name holds a line feed, so other parts give other bytes
    return int.from_bytes(hashlib.blake2b("\n".join(parts).encode(), digest_size=8).digest(), "big")
