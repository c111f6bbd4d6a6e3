"""The stored form of a partition's state, and the fingerprint that ties it to the topic it was made from. Pure.

    manifest = MAGIC · CRC-32 of all that follows · length of the header · header (JSON) · meta and small arrays (zstd)

The header says how far the stage has come, and names the chunks of large arrays (chunks.py), which are records of
their own. Two keys of the compacted topic are used in turn, `{partition}/a` and `{partition}/b`, so that the manifest
before the newest survives compaction, as do its chunks, under `{partition}/{name}`.

Version 1 (MRS1) had no chunks; it can still be read.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
import zstandard

from runtime.stage.chunks import Chunk, Layout, SnapshotError
from runtime.stage.provenance import START, Highest

MAGIC: Final = b"MRS2"
_FIRST: Final = b"MRS1"
_FRAME: Final = struct.Struct("<4sII")
_LEVEL: Final = 3


@dataclass(frozen=True, slots=True)
class Written:
    """How far a stage has written one of its output topics: the last record's provenance, and the highest offset it
    knows to be there (-1: none), which shows whether the topic was truncated or re-created since."""

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

    def reaching(self, offsets: Mapping[str, int]) -> "Snapshot":
        """The same, with the highest offset by topic that is known to be there by now."""
        written = {name: replace(w, offset=max(w.offset, offsets.get(name, -1))) for name, w in self.written.items()}
        return replace(self, written=written)


def fingerprint(offset: int, timestamp_ms: int, key: bytes | None, value: bytes | None) -> int:
    """A number that distinguishes this record from another at the same offset of a re-created topic."""
    seed = zlib.crc32(b"%d/%d/" % (offset, timestamp_ms))
    return zlib.crc32(value or b"", zlib.crc32(key or b"", seed))


@dataclass(frozen=True, slots=True)
class Manifest:
    """A snapshot as stored. `packed`: meta and small arrays (runtime.columns.pack); `arrays`: the large ones.

    `previous` and `obsolete` (stored as `spare` and `doomed`): names of chunks that the manifest before needs, and that
    none needs any more; whoever takes over drops them. `seen`: up to this offset the writer knew all records; what lies
    between it and the manifest was written by others, who may have dropped the manifest's chunks.
    """

    snapshot: Snapshot
    packed: bytes
    seen: int = 0
    arrays: dict[str, Layout] = field(default_factory=dict)
    previous: tuple[str, ...] = ()
    obsolete: tuple[str, ...] = ()

    def chunks(self) -> set[Chunk]:
        return {chunk for layout in self.arrays.values() for chunk in layout.chunks}


def encode(manifest: Manifest) -> bytes:
    """As one record value. May run in a thread."""
    rest = {"seen": manifest.seen, "arrays": manifest.arrays, "spare": manifest.previous, "doomed": manifest.obsolete}
    header = orjson.dumps({"snapshot": manifest.snapshot, **rest}, option=orjson.OPT_SORT_KEYS)
    body = header + zstandard.ZstdCompressor(level=_LEVEL).compress(manifest.packed)
    return _FRAME.pack(MAGIC, zlib.crc32(body), len(header)) + body


def decode(value: bytes) -> Manifest:
    """What was encoded, now or by version 1. Raises SnapshotError on anything else."""
    try:
        magic, crc, length = _FRAME.unpack_from(value)
    except struct.error:
        raise SnapshotError(f"{len(value)} bytes are not a snapshot") from None
    if magic not in (MAGIC, _FIRST):
        raise SnapshotError(f"it starts with {magic!r}, not {MAGIC!r}")
    body = memoryview(value)[_FRAME.size :]
    if zlib.crc32(body) != crc or length > len(body):
        raise SnapshotError("its checksum does not match: it is damaged")
    try:
        header = orjson.loads(body[:length])
        packed = zstandard.ZstdDecompressor().decompress(body[length:])
        return _manifest(header, packed) if magic == MAGIC else Manifest(_snapshot(header), packed)
    except (zstandard.ZstdError, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise SnapshotError(f"its contents cannot be read: {error!r}") from None


def _manifest(header: dict[str, Any], packed: bytes) -> Manifest:
    arrays = {name: _layout(**layout) for name, layout in header["arrays"].items()}
    snapshot = _snapshot(header["snapshot"])
    return Manifest(snapshot, packed, header["seen"], arrays, tuple(header["spare"]), tuple(header["doomed"]))


def _layout(type: str, shape: list[int], chunks: list[dict[str, Any]]) -> Layout:
    return Layout(type, tuple(shape), tuple(Chunk(**chunk) for chunk in chunks))


def _snapshot(header: dict[str, Any]) -> Snapshot:
    highest = Highest(**header.pop("highest"))
    items = header.pop("written").items()
    written = {topic: Written(Highest(**item["last"]), item["offset"]) for topic, item in items}
    return Snapshot(**header, highest=highest, written=written)


def key(partition: int, turn: int) -> bytes:
    """Key of the snapshot topic: `turn` is any counter, even and odd ones alternate."""
    return b"%d/%s" % (partition, b"ab"[turn % 2 : turn % 2 + 1])


def chunk_key(partition: int, name: str) -> bytes:
    return b"%d/%s" % (partition, name.encode())


def is_manifest(found: bytes) -> bool:
    """Whether a key of the snapshot topic is a manifest's."""
    return found.endswith((b"/a", b"/b"))


def turn_after(used: bytes | None) -> int:
    """The turn that overwrites the older of the two snapshots, given the key of the one in use."""
    return 1 if used is not None and used.endswith(b"/a") else 0
