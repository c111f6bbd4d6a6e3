"""mosquitto's file of its queue and sessions (`mosquitto.db`, version 5 and later): whether it is whole."""

import struct
from pathlib import Path
from typing import Final

SAVED: Final = "mosquitto.db"
LAST: Final = "mosquitto.db.last"
"""A second name of the newest save that was made while there was room; see local/guard.py."""
_MAGIC: Final = b"\x00\xb5\x00mosquitto db"
_HEADER: Final = len(_MAGIC) + 8
"""The magic bytes, a checksum that is always 0, the version."""
_CHUNK: Final = struct.Struct(">II")


def is_whole(file: Path) -> bool:
    """Whether the file has a header and chunks up to its very end. mosquitto starts with an empty file as if nothing
    had been in it, and does not start with one that was cut off."""
    if not file.exists():
        return False
    data = file.read_bytes()
    if not data.startswith(_MAGIC) or len(data) < _HEADER:
        return False
    at = _HEADER
    while at + _CHUNK.size <= len(data):
        at += _CHUNK.size + _CHUNK.unpack_from(data, at)[1]
    return at == len(data)
