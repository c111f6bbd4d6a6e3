"""The newest whole snapshot of a partition, as the snapshot topic holds it.

Every record there (manifest, chunk, tombstone) has the header `manifest`: the offset of the last manifest that its
writer knew of, -1 for none. So from the last record the newest manifest is found without a scan, though a writer died
in the middle of a snapshot, or dropped chunks after it.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Message

from runtime.columns.pack import unpack
from runtime.errors import RefusedError
from runtime.stage import snapshot as form
from runtime.stage.admission import reset
from runtime.stage.chunks import Assembly, ChunkIndex, SnapshotError
from runtime.stage.contract import Frozen
from runtime.stage.snapshot import Manifest, Snapshot
from runtime.stage.store import Reader
from schemas.skips import FROM_OLDEST

log = logging.getLogger(__name__)
HEADER: Final = "manifest"
NONE: Final = -1


@dataclass(slots=True)
class SnapshotPosition:
    """Where snapshots of a partition are: its chunks, whose turn of the two keys it is, the offset of the newest
    manifest, the end of the topic after all that we read or wrote, and up to where we know every record (`seen`: less
    when another worker wrote in between)."""

    chunks: ChunkIndex
    turn: int = 0
    manifest: int = NONE
    end: int = 0
    seen: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """What the topic holds of a partition. `snapshot` and `state` are None where there never was a snapshot, or all
    were skipped."""

    position: SnapshotPosition
    snapshot: Snapshot | None = None
    state: Frozen | None = None


def pointer(manifest: int) -> list[tuple[str, bytes]]:
    """The header of a record whose writer knows the manifest at this offset."""
    return [(HEADER, b"%d" % manifest)]


def newest(reader: Reader, topic: str, partition: int, discard: bool = False) -> Stored:
    """The newest whole snapshot. `discard` ignores all of them: their chunks are obsolete.

    Raises RefusedError when there are some and none is whole.
    """
    records = _Records(reader, topic, partition, *reader.bounds(topic, partition))
    wrong = ""
    for message in () if discard else records.manifests():
        try:
            return _whole(records, message)
        except SnapshotError as error:
            wrong = str(error)
            log.error("snapshot %s of %s is unusable: %s; trying the one before", message.offset(), records.name, wrong)
    if wrong:
        raise RefusedError(
            f"no snapshot of {records.name} can be read: {wrong}. Restore the topic, or discard the old state:"
            f" {reset(topic.removeprefix('state.'), partition, FROM_OLDEST)}"
        )
    return Stored(SnapshotPosition(_index(records, None, records.low), end=records.end, seen=records.end))


def last_manifest(reader: Reader, topic: str, partition: int) -> int:
    """Offset of the newest manifest, whether it can be read or not; NONE where there is none."""
    records = _Records(reader, topic, partition, *reader.bounds(topic, partition))
    found = next(records.manifests(), None)
    return NONE if found is None else _offset(found)


class _Records:
    """The records of one partition of the snapshot topic, as they are at this moment."""

    def __init__(self, reader: Reader, topic: str, partition: int, low: int, end: int) -> None:
        self._reader, self._topic, self.partition, self.low, self.end = reader, topic, partition, low, end
        self.name = f"{topic}/{partition}"

    def since(self, start: int) -> Iterator[Message]:
        return self._reader.scan(self._topic, self.partition, max(start, self.low), self.end)

    def some(self, offsets: Iterable[int]) -> Iterator[Message]:
        return self._reader.some(self._topic, self.partition, offsets)

    def manifests(self) -> Iterator[Message]:
        """Newest first: where the last record points, and, when that did not do, all."""
        last = next(self.since(self.end - 1), None)
        if last is None:
            return
        begin = self.end - 1 if _is_manifest(last) else _pointer(last)
        tail = [m for m in self.since(begin) if _is_manifest(m)] if begin >= self.low else []
        yield from reversed(tail)
        by_key = {m.key(): m for m in self.since(self.low) if form.is_manifest(m.key() or b"")}
        seen = {_offset(m) for m in tail}
        rest = [m for m in by_key.values() if _is_manifest(m) and _offset(m) not in seen]
        yield from sorted(rest, key=_offset, reverse=True)


def _whole(records: _Records, message: Message) -> Stored:
    """What a manifest and its chunks say. Raises SnapshotError."""
    manifest = form.decode(message.value() or b"")
    meta, arrays = _unpacked(manifest)
    assembly = Assembly(manifest.arrays)
    missing = {chunk.offset: chunk for chunk in assembly.missing}
    for found in records.some(missing):
        chunk = missing.pop(_offset(found))
        if found.key() != form.chunk_key(records.partition, chunk.name) or found.value() is None:
            raise SnapshotError(f"the record at offset {chunk.offset} is not chunk {chunk.name}")
        assembly.put(chunk, found.value() or b"")
    if missing:
        raise SnapshotError(f"chunk {next(iter(missing.values())).name} at offset {next(iter(missing))} is missing")
    index = _index(records, manifest, min(manifest.seen, _offset(message)))
    position = SnapshotPosition(index, form.turn_after(message.key()), _offset(message), records.end, records.end)
    return Stored(position, manifest.snapshot, Frozen(meta, arrays | assembly.arrays))


def _unpacked(manifest: Manifest) -> tuple[Any, dict[str, Any]]:
    try:
        return unpack(manifest.packed)
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"its arrays cannot be read: {error!r}") from None


def _index(records: _Records, manifest: Manifest | None, start: int) -> ChunkIndex:
    """The chunks there are, given all records from `start` on. Those of the manifest have been read, and may be named
    again; all others that it knows of, or that were written since, are of no use to a successor.

    Raises SnapshotError when the manifest's own were dropped: compaction may take them any time.
    """
    named = manifest.chunks() if manifest is not None else set()
    names = {chunk.name for chunk in named}
    obsolete = {*manifest.previous, *manifest.obsolete} if manifest is not None else set()
    for message in records.since(start):
        key = message.key() or b""
        name = key.partition(b"/")[2].decode("utf-8", "replace")
        if form.is_manifest(key):
            continue
        if message.value() is not None:
            obsolete.add(name)
        elif name in names:
            raise SnapshotError(f"chunk {name} was dropped at offset {message.offset()} by another worker")
        else:
            obsolete.discard(name)
    return ChunkIndex({chunk.digest: chunk for chunk in named}, obsolete=obsolete - names)


def _is_manifest(message: Message) -> bool:
    return form.is_manifest(message.key() or b"") and message.value() is not None


def _offset(message: Message) -> int:
    return message.offset() or 0


def _pointer(message: Message) -> int:
    headers: Any = message.headers()
    found = dict(headers or ()).get(HEADER, b"")
    return int(found) if found.lstrip(b"-").isdigit() else NONE
