"""The decoder: properties, batch path, slow path, agreement; in this order, and always the same answer."""

import logging
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runtime.columns.spans import lying, milliseconds
from runtime.columns.types import Bool, Int32, Int64
from streams.access.decode import fast, properties, slow
from streams.access.decode.columns import Decoded, first_seen
from streams.access.decode.formats import JSON, Decode, format_of
from streams.access.decode.message import NO_TIME
from streams.access.decode.names import Names
from streams.access.decode.part import Part, empty, merge
from streams.access.decode.templates import Templates

log = logging.getLogger(__name__)

FEW: Final = 64
"""Fewer messages are sooner decoded one by one: the batch path costs as much for one as for a hundred."""
_TRIES: Final = 4
_PAUSE: Final = 15
"""So many times in a row that the batch path could not answer even FEW messages, and so many batches decoded one by one
after that: who invents shapes would have us pay for both. In a row, since partitions share a decoder."""


class Decoder:
    """Payloads to columns; see the package. Learns shapes of payloads, within bounds. Not thread-safe."""

    def __init__(self, few: int = FEW) -> None:
        """With `few` 1 the batch path is tried for every batch."""
        self._few = few
        self._failed = self._pause = 0
        self._names = Names()
        self._templates = Templates(self._names)

    def decode(self, batch: pa.RecordBatch, wanted: Bool | None = None) -> Decoded:
        """All readings of `batch` (schemas.raw.SCHEMA), of the rows in `wanted` only if that is given."""
        self._templates.next_batch()
        given = properties.read(batch, np.ones(len(batch), bool) if wanted is None else wanted)
        rows = _Rows(batch, given)
        found, fallback = self._fast(rows)
        if rows.open.any():
            found = merge(found, self._slow(rows))
        boot = properties.agree("boot", given.boot, rows.boot, rows.dead)
        seq = properties.agree("seq", given.seq, rows.seq, rows.dead)
        if rows.dead:
            found = _without(found, rows.dead, len(batch))
        child, children = _children(found, batch)
        time_ms, timed = _times(found, given.time_ms, milliseconds(batch.column("received_at")))
        return Decoded(
            row=found.row,
            index=found.index,
            metric=found.metric,
            child=child,
            time_ms=time_ms,
            value=found.value,
            text=found.text,
            boot=boot,
            seq=seq,
            names=self._names.all(),
            known=len(self._names.known),
            generation=self._templates.generation,
            children=children,
            dead=rows.dead,
            timed=timed,
            fallback=fallback,
        )

    def _fast(self, rows: "_Rows") -> tuple[Part, bool]:
        """(what the batch path can answer, whether it failed). A failure loses nothing: all rows stay open."""
        if np.count_nonzero(rows.open) < self._few or self._pauses():
            return empty(), False
        try:
            found = fast.answer(rows.batch.column("payload"), rows.json(), self._templates)
        except Exception as error:
            log.error("batch path failed; decoding message by message", exc_info=error)
            self._templates.spoil()
            return empty(), True
        self._judge(len(found.done))
        rows.open[found.done] = False
        rows.boot[found.done], rows.seq[found.done] = found.boot, found.seq
        return found.part, False

    def _pauses(self) -> bool:
        """Whether the batch path is not worth a try now."""
        self._pause -= 1
        return self._pause >= 0

    def _judge(self, answered: int) -> None:
        """Whether it was worth it."""
        self._failed = self._failed + 1 if 1 < self._few > answered else 0
        self._pause = _PAUSE if self._failed >= _TRIES else 0

    def _slow(self, rows: "_Rows") -> Part:
        offsets, body = lying(rows.batch.column("payload"))
        ends, whole = (offsets - offsets[0]).tolist(), body[offsets[0] : offsets[-1]].tobytes()
        received = milliseconds(rows.batch.column("received_at"))
        todo = (
            (row, rows.formats[row] if rows.formats else JSON, whole[ends[row] : ends[row + 1]], at)
            for row, at in zip(np.flatnonzero(rows.open).tolist(), received[rows.open].tolist(), strict=True)
        )
        return slow.rows(todo, self._names, rows.boot, rows.seq, rows.dead)


class _Rows:
    """The rows of a batch while it is decoded: which are open still, what their payloads say of boot and seq."""

    def __init__(self, batch: pa.RecordBatch, given: properties.Given) -> None:
        self.batch = batch
        self.open: Bool = given.right.copy()
        self.dead: dict[int, str] = dict(given.dead)
        self.boot = np.full(len(batch), -1, np.int64)
        self.seq = np.full(len(batch), -1, np.int64)
        self.formats = _formats(batch.column("content_type"))

    def json(self) -> Bool:
        """The open ones of plain JSON."""
        if self.formats is None:
            return self.open
        is_json: Bool = np.array([f is JSON for f in self.formats], bool)
        return self.open & is_json


def _formats(column: Any) -> list[Decode] | None:
    """The format of each row; None when all are plain JSON."""
    if column.null_count == len(column):
        return None
    encoded = column.dictionary_encode()
    kinds = [format_of(kind) for kind in encoded.dictionary.to_pylist()]
    if all(kind is JSON for kind in kinds):
        return None
    return [JSON if code is None else kinds[code] for code in encoded.indices.to_pylist()]


def _times(found: Part, message_ms: Int64 | None, received_ms: Int64) -> tuple[Int64, bool]:
    """(time of each reading: its own, else the message's, else when it was received; whether one is not the last)."""
    own = found.time_ms
    absent = own == NO_TIME
    if message_ms is None and absent.all():
        return received_ms.take(found.row), False
    if not absent.any():
        return own, True
    otherwise = received_ms if message_ms is None else np.where(message_ms == NO_TIME, received_ms, message_ms)
    return np.where(absent, otherwise.take(found.row), own), True


def _without(found: Part, dead: dict[int, str], rows: int) -> Part:
    """The readings of rows that are not dead."""
    alive = np.ones(rows, bool)
    alive[list(dead)] = False
    mask = alive[found.row]
    return found if mask.all() else found.keep(mask)


def _children(found: Part, batch: pa.RecordBatch) -> tuple[Int32 | None, list[str]]:
    """Codes of children, in the order in which they are met, and their ids; a device that names itself is no child."""
    if found.child is None:
        return None, []
    publisher = pc.index_in(batch.column("device"), pa.array(found.children)).fill_null(-1).to_numpy()
    child = np.where(found.child == publisher[found.row], np.int32(-1), found.child)
    given = child >= 0
    if not given.any():
        return None, []
    child[given], order = first_seen(child[given])
    return child, [found.children[code] for code in order.tolist()]
