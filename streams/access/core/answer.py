"""Fates to a batch of telemetry.readings: readings of accepted messages, one row for each denied or dead one."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from runtime.columns.arrays import positions
from runtime.columns.spans import milliseconds
from runtime.columns.types import Bool, Int32, Int64
from schemas.headers import Counts
from schemas.readings import DICTIONARY, SCHEMA
from schemas.vocabulary import Verdict
from streams.access.core import events
from streams.access.core.judge import Judged
from streams.access.core.topics import NO_CHANNEL
from streams.access.decode import first_seen

_TIME: Final = pa.timestamp("ms", "UTC")


def counts(judged: Judged, replayed: int) -> Counts:
    by_verdict = np.bincount(judged.verdict, minlength=4).tolist()
    return Counts(
        received=len(judged.verdict),
        accepted=by_verdict[Verdict.ACCEPTED],
        denied=by_verdict[Verdict.DENIED],
        dead_letters=by_verdict[Verdict.DEAD_LETTER],
        duplicates=by_verdict[Verdict.DUPLICATE],
        replayed=replayed,
        missing=judged.sequences.missing,
        readings=int(judged.keep.sum()),
        events=len(events.messages(judged)),
    )


class _Rows:
    """The rows of the answer in order of (raw row, reading). `row`: row of the batch; `filed`: those not accepted;
    `place`: where the readings stand, None when there is nothing else."""

    def __init__(self, judged: Judged) -> None:
        row = judged.decoded.row if judged.keep.all() else judged.decoded.row[judged.keep]
        filed = positions((judged.verdict == Verdict.DENIED) | (judged.verdict == Verdict.DEAD_LETTER))
        self.filed_rows = filed
        self.place: Any = None
        self.filed: Any = None
        self.row: Int32 = row
        if len(filed):
            both = np.concatenate([row, filed.astype(np.int32)])
            order = np.argsort(both, kind="stable")
            self.row = both[order]
            self.place = positions(order < len(row))
            self.filed = positions(order >= len(row))

    def spread(self, values: Any, otherwise: Any) -> Any:
        """A column that readings have; the other rows get `otherwise` (a scalar or a value for each)."""
        if self.place is None:
            return values
        out = np.empty(len(self.row), values.dtype)
        out[self.place] = values
        out[self.filed] = otherwise
        return out

    def texts(self, values: Any) -> Any:
        """A StringArray that readings have; null elsewhere."""
        if self.place is None:
            return values
        index = np.zeros(len(self.row), np.int64)
        index[self.place] = np.arange(len(self.place))
        return values.take(pa.array(index, mask=self.only_filed()))

    def of_message(self, column: Any) -> Any:
        """A column of the batch for rows that are not accepted; null on readings."""
        if self.filed is None or column.null_count == len(column):
            return pa.nulls(len(self.row), column.type)
        return column.take(pa.array(self.row, mask=~self.only_filed()))

    def only_filed(self) -> Bool:
        mask = np.zeros(len(self.row), bool)
        mask[self.filed] = True
        return mask


def build(batch: Any, judged: Judged, raw_rows: Int32 | None) -> pa.RecordBatch:
    """The batch (schemas.readings.SCHEMA). `raw_rows`: row of each batch row in the raw record, None: the same."""
    decoded, keep = judged.decoded, judged.keep
    every = bool(keep.all())
    rows = _Rows(judged)

    def own(values: Any) -> Any:
        return values if every else values[keep]

    received = milliseconds(batch.column("received_at"))[rows.row]
    value = rows.spread(own(decoded.value), np.nan)
    device, publisher = _devices(batch, judged, rows)
    text = decoded.text
    if text is not None:
        text = rows.texts(text if every else text.filter(pa.array(keep)))
    columns = {
        "verdict": _column(
            pa.uint8(), rows.spread(np.zeros(int(keep.sum()), np.uint8), judged.verdict[rows.filed_rows])
        ),
        "device": device,
        "publisher": publisher,
        "channel": _channels(judged, rows),
        "metric": _metrics(own(decoded.metric), judged, rows),
        "time": _column(_TIME, rows.spread(own(decoded.time_ms), 0 if rows.filed is None else received[rows.filed])),
        "value": _column(pa.float64(), value, None if text is None and rows.filed is None else ~np.isnan(value)),
        "text": pa.nulls(len(rows.row), pa.string()) if text is None else text,
        "quality": _column(pa.uint8(), rows.spread(own(judged.quality), 0)),
        "received_at": _column(_TIME, received),
        "boot": _optional(decoded.boot, rows.row),
        "seq": _optional(decoded.seq, rows.row),
        "raw_row": _column(pa.int32(), rows.row if raw_rows is None else raw_rows[rows.row]),
        "reading_index": _column(pa.int32(), rows.spread(own(decoded.index), 0)),
        "replay_of": _replays(batch.column("replay_of"), rows),
        "reason": _reasons(judged, rows),
    } | {name: rows.of_message(batch.column(name)) for name in ("topic", "payload", "content_type", "ts")}
    return pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _column(kind: Any, values: Any, valid: Bool | None = None) -> Any:
    bits = None if valid is None or valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [bits, pa.py_buffer(np.ascontiguousarray(values))])


def _optional(of_rows: Int64, row: Int32) -> Any:
    """A column of which -1 is null, from what each row of the batch has."""
    values = of_rows[row]
    return _column(pa.int64(), values, None if of_rows.min() >= 0 else values >= 0)


def _dictionary(codes: npt.NDArray[Any], words: Any, valid: Bool | None = None) -> Any:
    indices = _column(pa.int32(), codes.astype(np.int32, copy=False), valid)
    return pa.DictionaryArray.from_arrays(indices, words, safe=False)


def _devices(batch: Any, judged: Judged, rows: _Rows) -> tuple[Any, Any]:
    """(device, publisher): the same but where a reading names a child."""
    encoded = batch.column("device").dictionary_encode()
    codes = encoded.indices.to_numpy()[rows.row]
    publisher = _dictionary(codes, encoded.dictionary)
    child = judged.decoded.child
    if child is None or not judged.keep.any():
        return publisher, publisher
    child = rows.spread(child[judged.keep], -1)
    if (child < 0).all():
        return publisher, publisher
    words = pa.concat_arrays([encoded.dictionary, pa.array(judged.decoded.children, pa.string())])
    named = words.take(pa.array(np.where(child >= 0, child + len(encoded.dictionary), codes)))
    return named.dictionary_encode(), publisher


def _channels(judged: Judged, rows: _Rows) -> Any:
    code = judged.topics.channel[rows.row]
    valid = code != NO_CHANNEL
    return _dictionary(np.where(valid, code, 0), pa.array(judged.topics.words, pa.string()), valid)


def _metrics(metric: Int32, judged: Judged, rows: _Rows) -> Any:
    dense, order = first_seen(metric)
    words = pa.array([judged.decoded.names[code] for code in order.tolist()], pa.string())
    code = rows.spread(dense, -1)
    valid = None if rows.place is None else code >= 0
    return _dictionary(np.maximum(code, 0), words, valid)


def _replays(column: Any, rows: _Rows) -> Any:
    if column.null_count == len(column):
        return pa.nulls(len(rows.row), pa.string())
    return column.take(pa.array(rows.row))


def _reasons(judged: Judged, rows: _Rows) -> Any:
    if rows.filed is None:
        return pa.nulls(len(rows.row), pa.string())
    reasons = pa.array([judged.reason[row] for row in rows.filed_rows.tolist()], pa.string())
    index = np.zeros(len(rows.row), np.int64)
    index[rows.filed] = np.arange(len(rows.filed))
    return reasons.take(pa.array(index, mask=~rows.only_filed()))


def unreadable(batch: Any, raw_row: int, reason: str) -> pa.RecordBatch:
    """The answer to one message that nothing else could be said of: a dead letter."""
    row = {
        "verdict": [int(Verdict.DEAD_LETTER)],
        "device": batch.column("device"),
        "publisher": batch.column("device"),
        "time": batch.column("received_at"),
        "quality": [0],
        "received_at": batch.column("received_at"),
        "raw_row": [raw_row],
        "reading_index": [0],
        "reason": [reason],
    } | {name: batch.column(name) for name in ("replay_of", "topic", "payload", "content_type", "ts")}
    columns = [_filled(row.get(field.name), field.type) for field in SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _filled(values: Any, kind: Any) -> Any:
    if values is None:
        return pa.array([None], pa.string()).dictionary_encode() if kind.equals(DICTIONARY) else pa.nulls(1, kind)
    plain = values if isinstance(values, pa.Array) else pa.array(values, kind)
    return plain.dictionary_encode() if kind.equals(DICTIONARY) else plain
