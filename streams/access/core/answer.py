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
        readings=len(judged.decoded.row) if judged.keep is None else int(np.count_nonzero(judged.keep)),
        events=len(events.messages(judged)),
    )


class _Rows:
    """The rows of the answer in order of (raw row, reading). `row`: row of the batch; `filed`: those not accepted;
    `place`: where the readings stand, None when there is nothing else."""

    def __init__(self, judged: Judged) -> None:
        self.keep = judged.keep
        self.place: Any = None
        self.filed: Any = None
        self.row: Int32 = self.own(judged.decoded.row)
        self.filed_rows = np.array(sorted(judged.reason), np.int32)
        if len(self.filed_rows):
            readings = len(self.row)
            both = np.concatenate([self.row, self.filed_rows])
            order = np.argsort(both, kind="stable")
            self.row = both[order]
            self.place = positions(order < readings)
            self.filed = positions(order >= readings)

    def own(self, values: Any) -> Any:
        """Of a column of all readings those that are kept."""
        return values if self.keep is None else values[self.keep]

    def spread(self, values: Any, otherwise: Any) -> Any:
        """A column that readings have; the other rows get `otherwise` (a scalar or a value for each)."""
        if self.place is None:
            return values
        out = np.empty(len(self.row), values.dtype)
        out[self.place] = values
        out[self.filed] = otherwise
        return out

    def texts(self, values: Any) -> Any:
        """A StringArray of all readings; null on the other rows."""
        values = values if self.keep is None else values.filter(pa.array(self.keep))
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
    decoded = judged.decoded
    rows = _Rows(judged)
    received = milliseconds(batch.column("received_at")).take(rows.row)
    received_at = _column(_TIME, received)
    value = rows.spread(rows.own(decoded.value), np.nan)
    device, publisher = _devices(judged, rows)
    text = None if decoded.text is None else rows.texts(decoded.text)
    verdict = np.zeros(len(rows.row), np.uint8)
    time = received_at
    if decoded.timed:
        time = _column(_TIME, rows.spread(rows.own(decoded.time_ms), 0 if rows.filed is None else received[rows.filed]))
    if rows.filed is not None:
        verdict[rows.filed] = judged.verdict[rows.filed_rows]
    columns = {
        "verdict": _column(pa.uint8(), verdict),
        "device": device,
        "publisher": publisher,
        "channel": _channels(judged, rows),
        "metric": _metrics(rows.own(decoded.metric), judged, rows),
        "time": time,
        "value": _column(pa.float64(), value, None if text is None and rows.filed is None else ~np.isnan(value)),
        "text": pa.nulls(len(rows.row), pa.string()) if text is None else text,
        "quality": _column(pa.uint8(), rows.spread(rows.own(judged.quality), 0)),
        "received_at": received_at,
        "boot": _optional(decoded.boot, rows.row),
        "seq": _optional(decoded.seq, rows.row),
        "raw_row": _column(pa.int32(), rows.row if raw_rows is None else raw_rows[rows.row]),
        "reading_index": _column(pa.int32(), rows.spread(rows.own(decoded.index), 0)),
        "replay_of": _replays(batch.column("replay_of"), rows),
        "reason": _reasons(judged, rows),
    } | {name: rows.of_message(batch.column(name)) for name in ("topic", "payload", "content_type", "ts")}
    return pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _column(kind: Any, values: Any, valid: Bool | None = None) -> Any:
    bits = None if valid is None or valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [bits, pa.py_buffer(np.ascontiguousarray(values))])


def _optional(of_rows: Int64, row: Int32) -> Any:
    """A column of which -1 is null, from what each row of the batch has."""
    values = of_rows.take(row)
    return _column(pa.int64(), values, None if of_rows.min() >= 0 else values >= 0)


def _optional_words(codes: Int32, words: Any) -> Any:
    """A dictionary column of which -1 is null."""
    if codes.min(initial=0) >= 0:
        return _dictionary(codes, words)
    return _dictionary(np.maximum(codes, 0), words, codes >= 0)


def _dictionary(codes: npt.NDArray[Any], words: Any, valid: Bool | None = None) -> Any:
    indices = _column(pa.int32(), codes.astype(np.int32, copy=False), valid)
    return pa.DictionaryArray.from_arrays(indices, words, safe=False)


def _devices(judged: Judged, rows: _Rows) -> tuple[Any, Any]:
    """(device, publisher): the same but where a reading names a child."""
    words = judged.ids.dictionary
    codes = judged.ids.indices.to_numpy().take(rows.row)
    publisher = _dictionary(codes, words)
    if judged.decoded.child is None:
        return publisher, publisher
    child = rows.spread(rows.own(judged.decoded.child), -1)
    if (child < 0).all():
        return publisher, publisher
    both = pa.concat_arrays([words, pa.array(judged.decoded.children, pa.string())])
    named = both.take(pa.array(np.where(child >= 0, child + len(words), codes)))
    return named.dictionary_encode(), publisher


def _channels(judged: Judged, rows: _Rows) -> Any:
    code = judged.topics.channel.take(rows.row)
    return _optional_words(code, pa.array(judged.topics.words, pa.string()))


def _metrics(metric: Int32, judged: Judged, rows: _Rows) -> Any:
    dense, order = first_seen(metric)
    words = pa.array([judged.decoded.names[code] for code in order.tolist()], pa.string())
    return _optional_words(rows.spread(dense, -1), words)


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
    """The answer to one message that cannot be judged: a dead letter."""
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


def skipped(messages: int, time_ms: int, reason: str) -> pa.RecordBatch:
    """Dead letters of so many messages of which nothing can be read. Of what is not null in the schema: no device and
    no publisher (an empty text), stream time for the times."""
    constant = {
        "verdict": int(Verdict.DEAD_LETTER),
        "device": "",
        "publisher": "",
        "time": time_ms,
        "received_at": time_ms,
        "quality": 0,
        "reading_index": 0,
        "reason": reason,
    }
    columns = {name: pa.repeat(pa.scalar(value, _plain(name)), messages) for name, value in constant.items()}
    columns["raw_row"] = pa.array(np.arange(messages, dtype=np.int32))
    return pa.RecordBatch.from_arrays([_whole(columns.get(f.name), f.type, messages) for f in SCHEMA], schema=SCHEMA)


def _plain(name: str) -> Any:
    kind = SCHEMA.field(name).type
    return pa.string() if kind.equals(DICTIONARY) else kind


def _whole(values: Any, kind: Any, rows: int) -> Any:
    if values is None:
        values = pa.nulls(rows, pa.string() if kind.equals(DICTIONARY) else kind)
    return values.dictionary_encode() if kind.equals(DICTIONARY) else values
