"""Stores snapshots: chunks that are not there yet, then the manifest; what no manifest needs is dropped later.

One copy of one partition's state is in hand at a time, and one chunk on its way: a snapshot neither fills memory nor
keeps outputs waiting behind it.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from runtime.columns.pack import pack
from runtime.errors import MillraceError
from runtime.stage import chunks
from runtime.stage import snapshot as form
from runtime.stage.chunks import Chunk, Cut, Layout
from runtime.stage.contract import Frozen
from runtime.stage.copies import Copies, Copy, allocate
from runtime.stage.newest import SnapshotPosition, pointer
from runtime.stage.outbox import Outbox
from runtime.stage.snapshot import Manifest, Snapshot
from runtime.tasks import in_thread

CommitCovered = Callable[[], Awaitable[set[int]]]
"""Commits the offsets that snapshots cover; returns the partitions for which the group accepted it: they are assigned
to this worker."""

log = logging.getLogger(__name__)
_WARN_BYTES: Final = 16 << 20
"""Half of what the snapshot topic takes."""
_TRIES: Final = 3
"""Times that room is made for a copy before the flow waits for it."""


@dataclass(slots=True)
class SnapshotStats:
    """What one snapshot wrote."""

    written_bytes: int = 0
    chunks_written: int = 0
    chunks_reused: int = 0


class PartitionLostError(MillraceError):
    """The group has assigned the partition to another worker."""


class Keeper:
    """Of one worker and stage. Not to be used for two snapshots at once.

    One who lost a partition without knowing it (a process that was stopped for long) must not replace manifests by one
    whose chunks its successor may have dropped, nor drop chunks that its successor reads. So the group is asked before
    a manifest names chunks, and before any are dropped.
    """

    def __init__(self, topic: str, outbox: Outbox, cut: Cut, commit: CommitCovered) -> None:
        self._topic, self._outbox, self._cut, self._commit = topic, outbox, cut, commit
        self._copies = Copies()
        self._writer = os.urandom(4).hex()

    async def copy(
        self, freeze: Callable[[], Frozen], flow: asyncio.Lock, between: Callable[[], Any]
    ) -> tuple[Copy, Any, float]:
        """(the state, what `between` says, seconds that the flow waited): both between the same two records."""
        for attempt in range(_TRIES):
            async with flow:
                begin = time.perf_counter()
                frozen = freeze()
                lacking = self._copies.lacking(frozen)
                if lacking and attempt == _TRIES - 1:
                    self._copies.add(allocate(lacking))
                    lacking = {}
                if not lacking:
                    return self._copies.take(frozen), between(), time.perf_counter() - begin
            del frozen  # the flow goes on: the state may not be able to grow while views of it are about
            self._copies.add(await in_thread(allocate, lacking))
        raise AssertionError("the last try returns")

    async def store(self, partition: int, position: SnapshotPosition, snapshot: Snapshot, copy: Copy) -> SnapshotStats:
        """Store a snapshot whose outputs are all acknowledged. `position` is moved on, `copy` is given back when it is
        stored: else it keeps its memory. Raises PartitionLostError."""
        stats = SnapshotStats()
        inline, large = chunks.divide(copy.arrays, self._cut)
        layouts = {}
        for name, pieces in large.items():
            stored = [await self._chunk(partition, position, piece, stats) for piece in pieces]
            layouts[name] = Layout(copy.arrays[name].dtype.str, copy.arrays[name].shape, tuple(stored))
        used = {chunk for layout in layouts.values() for chunk in layout.chunks}
        if used and partition not in await self._commit():
            raise PartitionLostError(
                f"{self._topic}/{partition}: the group assigned it to another worker; no snapshot was stored"
            )
        index = position.chunks.after(used)
        previous = tuple(sorted(chunk.name for chunk in index.previous.values()))
        packed = pack(orjson.Fragment(copy.meta), inline)
        manifest = Manifest(snapshot, packed, position.seen, layouts, previous, tuple(sorted(index.obsolete)))
        value = await in_thread(form.encode, manifest)
        position.manifest = await self._write(partition, position, form.key(partition, position.turn), value, stats)
        position.chunks, position.turn = index, position.turn + 1
        self._copies.give_back(copy)
        if len(value) > _WARN_BYTES:
            log.warning(
                "snapshot of partition %d: its manifest is %d MB, the limit is 32: data that grow must not be in"
                " the state's meta, but in arrays",
                *(partition, len(value) >> 20),
            )
        return stats

    async def drop(self, partition: int, position: SnapshotPosition) -> None:
        """Drop the chunks that neither the last manifest nor the one before it needs, once that one is committed."""
        position.seen = position.end  # what others wrote meanwhile they wrote late: it was ours all the time
        obsolete = sorted(position.chunks.obsolete)
        for name in obsolete:
            key = form.chunk_key(partition, name)
            await self._outbox.send(self._topic, partition, None, pointer(position.manifest), key)
        if obsolete:
            position.end = position.seen = (await self._outbox.settled(partition))[self._topic] + 1
            position.chunks.obsolete.clear()

    async def _chunk(
        self, partition: int, position: SnapshotPosition, piece: memoryview, stats: SnapshotStats
    ) -> Chunk:
        digest = await in_thread(chunks.digest, piece)
        known = position.chunks.find(digest)
        if known is not None:
            stats.chunks_reused += 1
            return known
        value = await in_thread(chunks.compress, piece)
        name = f"{digest}-{self._writer}"
        offset = await self._write(partition, position, form.chunk_key(partition, name), value, stats)
        chunk = Chunk(name, offset, len(piece))
        position.chunks.wrote(chunk)
        stats.chunks_written += 1
        return chunk

    async def _write(
        self, partition: int, position: SnapshotPosition, key: bytes, value: bytes | None, stats: SnapshotStats
    ) -> int:
        """Write one record and wait until it is there. Its offset."""
        await self._outbox.send(self._topic, partition, value, pointer(position.manifest), key)
        offset = (await self._outbox.settled(partition))[self._topic]
        position.end = offset + 1
        position.seen = position.end if offset == position.seen else position.seen
        stats.written_bytes += len(value or b"")
        return offset
