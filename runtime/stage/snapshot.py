"""The stored form of a partition's state, and the fingerprint that ties it to the topic it was made from. Pure.

    value = MAGIC · CRC-32 of all that follows · length of the header · header (JSON) · state (zstd)

Two keys of the compacted topic are used in turn, `{partition}/a` and `{partition}/b`, so that the snapshot before the
newest survives compaction.
"""

import struct
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson
import zstandard

from runtime.errors import MillraceError
from runtime.stage.provenance import START, Highest

MAGIC: Final = b"MRS1"
_FRAME: Final = struct.Struct("<4sII")
_LEVEL: Final = 3


class SnapshotError(MillraceError):
    """The bytes are no whole snapshot. The one before may do."""


@dataclass(frozen=True, slots=True)
class Written:
    """How far a stage has written one of its output topics: the last record's provenance, and the highest offset it
    knows to be there (-1: none), which tells whether the topic was truncated or made anew since."""

    last: Highest = START
    offset: int = -1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a stage knows of one partition besides its state.

    `position` is the offset of the source topic that comes next; `fingerprint` that of the record before it (0 at the
    beginning); `highest` the provenance of that record; `written` by output topic.
    """

    stage: str
    partition: int
    logic_version: int
    topic_id: str
    position: int = 0
    fingerprint: int = 0
    highest: Highest = START
    written: dict[str, Written] = field(default_factory=dict)


def fingerprint(offset: int, timestamp_ms: int, key: bytes | None, value: bytes | None) -> int:
    """A number that tells this record from another that might stand at the same offset of a topic made anew."""
    seed = zlib.crc32(b"%d/%d/" % (offset, timestamp_ms))
    return zlib.crc32(value or b"", zlib.crc32(key or b"", seed))


def encode(snapshot: Snapshot, state: bytes) -> bytes:
    """Snapshot and state as one record value. May run in a thread."""
    header = orjson.dumps(asdict(snapshot), option=orjson.OPT_SORT_KEYS)
    body = header + zstandard.ZstdCompressor(level=_LEVEL).compress(state)
    return _FRAME.pack(MAGIC, zlib.crc32(body), len(header)) + body


def decode(value: bytes) -> tuple[Snapshot, bytes]:
    """Snapshot and state. Raises SnapshotError on anything but exactly what `encode` made."""
    try:
        magic, crc, length = _FRAME.unpack_from(value)
    except struct.error:
        raise SnapshotError(f"{len(value)} bytes are no snapshot") from None
    if magic != MAGIC:
        raise SnapshotError(f"it starts with {magic!r}, not {MAGIC!r}")
    body = memoryview(value)[_FRAME.size :]
    if zlib.crc32(body) != crc or length > len(body):
        raise SnapshotError("its checksum does not fit: it is damaged")
    try:
        header = orjson.loads(body[:length])
        state = zstandard.ZstdDecompressor().decompress(body[length:])
        return _snapshot(header), state
    except (zstandard.ZstdError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise SnapshotError(f"its contents cannot be read: {error!r}") from None


def _snapshot(header: dict[str, Any]) -> Snapshot:
    highest = Highest(**header.pop("highest"))
    items = header.pop("written").items()
    written = {topic: Written(Highest(**item["last"]), item["offset"]) for topic, item in items}
    return Snapshot(**header, highest=highest, written=written)


def key(partition: int, turn: int) -> bytes:
    """Key of the snapshot topic: `turn` is any counter, even and odd ones alternate."""
    return b"%d/%s" % (partition, b"ab"[turn % 2 : turn % 2 + 1])


def turn_after(used: bytes | None) -> int:
    """The turn that overwrites the older of the two snapshots, given the key of the one in use."""
    return 1 if used is not None and used.endswith(b"/a") else 0
