"""The decoder: envelope, batch path, slow path, agreement; in this order, and always the same answer."""

import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streams.access.decode import properties, slow
from streams.access.decode.columns import Bool, Decoded, Int32, Int64
from streams.access.decode.formats import JSON, Decode, format_of
from streams.access.decode.limits import moment_text, whole_text
from streams.access.decode.names import Names
from streams.access.decode.part import NO_TIME, Part

log = logging.getLogger(__name__)


class Decoder:
    """Payloads to columns; see the package. Learns shapes of payloads, within bounds. Not thread-safe."""

    def __init__(self) -> None:
        self._names = Names()
        self._generation = 0

    def decode(self, batch: pa.RecordBatch, wanted: Bool | None = None) -> Decoded:
        """All readings of `batch` (schemas.raw.SCHEMA), of the rows in `wanted` only if that is given."""
        self._names.next_batch()
        dead: dict[int, str] = {}
        boots = properties.numbers(batch.column("boot"), lambda text: whole_text(text, "boot"), -1, dead)
        seqs = properties.numbers(batch.column("seq"), lambda text: whole_text(text, "seq"), -1, dead)
        times = properties.numbers(batch.column("ts"), moment_text, NO_TIME, dead)
        open_rows = np.ones(len(batch), bool) if wanted is None else wanted.copy()
        for row in [r for r in dead if not open_rows[r]]:
            del dead[row]
        open_rows[list(dead)] = False
        boot, seq = np.full(len(batch), -1, np.int64), np.full(len(batch), -1, np.int64)
        received = _int64(batch.column("received_at"))
        found = self._slow(batch, open_rows, received, boot, seq, dead)
        boot = properties.agree("boot", boots, boot, dead)
        seq = properties.agree("seq", seqs, seq, dead)
        if dead:
            found = _without(found, dead, len(batch))
        child, children = _children(found, batch)
        base = np.where(times == NO_TIME, received, times)
        return Decoded(
            row=found.row,
            index=found.index,
            metric=found.metric,
            child=child,
            time_ms=np.where(found.time_ms == NO_TIME, base[found.row], found.time_ms),
            value=found.value,
            text=found.text,
            boot=boot,
            seq=seq,
            names=self._names.all(),
            known=len(self._names.known),
            generation=self._generation,
            children=children,
            dead=dead,
        )

    def _slow(
        self, batch: pa.RecordBatch, open_rows: Bool, received: Int64, boot: Int64, seq: Int64, dead: dict[int, str]
    ) -> Part:
        formats = _formats(batch.column("content_type"))
        payloads = batch.column("payload")
        todo = (
            (row, formats[row] if formats else JSON, payloads[row].as_py(), int(received[row]))
            for row in np.flatnonzero(open_rows).tolist()
        )
        return slow.rows(todo, self._names, boot, seq, dead)


def _formats(column: Any) -> list[Decode] | None:
    """The format of each row; None when all are plain JSON."""
    if column.null_count == len(column):
        return None
    encoded = column.dictionary_encode()
    known = [format_of(kind) for kind in encoded.dictionary.to_pylist()]
    if not encoded.null_count and all(f is JSON for f in known):
        return None
    return [JSON if code is None else known[code] for code in encoded.indices.to_pylist()]


def _without(found: Part, dead: dict[int, str], rows: int) -> Part:
    """The readings of rows that are not dead."""
    alive = np.ones(rows, bool)
    alive[list(dead)] = False
    mask = alive[found.row]
    return found if mask.all() else found.keep(mask)


def _children(found: Part, batch: pa.RecordBatch) -> tuple[Int32 | None, list[str]]:
    """Codes of children and their ids; a device that names itself is no child."""
    if found.child is None:
        return None, []
    publisher = batch.column("device").take(pa.array(found.row))
    own = pc.fill_null(pc.equal(found.child, publisher), False)
    encoded = pc.if_else(own, pa.scalar(None, pa.string()), found.child).dictionary_encode()
    if encoded.null_count == len(encoded):
        return None, []
    return pc.fill_null(encoded.indices, -1).to_numpy(), encoded.dictionary.to_pylist()


def _int64(column: Any) -> Int64:
    """A timestamp column without nulls as milliseconds."""
    values: Int64 = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column)]
    return values
