"""Event rows of the answer: accepted messages outside of telemetry, and connects and disconnects from the bridge."""

import logging
from typing import Any, Final

import numpy as np
import pyarrow as pa

from runtime.columns.spans import milliseconds
from runtime.columns.types import Int32, Int64
from schemas.errors import ContractError
from schemas.readings import SCHEMA
from schemas.topics import parse_platform
from schemas.vocabulary import Verdict
from streams.access.core.judge import MAX_TIME_MS, MIN_TIME_MS, Judged
from streams.access.decode.limits import moment_text
from streams.access.decode.message import NO_TIME
from streams.access.decode.properties import numbers

log = logging.getLogger(__name__)

_TIME: Final = pa.timestamp("ms", "UTC")


def messages(judged: Judged) -> Int32:
    """Rows of accepted messages outside of telemetry, ascending."""
    if not judged.topics.other:
        return np.zeros(0, np.int32)
    rows = np.array(sorted(judged.topics.other), np.int32)
    accepted: Int32 = rows[judged.verdict[rows] == Verdict.ACCEPTED]
    return accepted


def of_messages(batch: Any, judged: Judged, raw_rows: Int32 | None) -> pa.RecordBatch:
    """One event row for each of `messages` (schemas.readings.SCHEMA). `raw_rows`: as in answer.build."""
    rows = messages(judged)
    taken = batch.take(pa.array(rows))
    uplinks = [judged.topics.other[row] for row in rows.tolist()]
    own = {
        "metric": pa.array(["/".join((uplink.branch, *uplink.names)) for uplink in uplinks], pa.string()),
        "time": pa.array(_times(taken), _TIME),
        "boot": _whole(judged.decoded.boot[rows]),
        "seq": _whole(judged.decoded.seq[rows]),
        "raw_row": pa.array(rows if raw_rows is None else raw_rows[rows], pa.int32()),
    } | {name: taken.column(name) for name in ("payload", "content_type", "replay_of")}
    return _batch(taken, own)


def of_platform(batch: Any, platform: Int32) -> tuple[pa.RecordBatch, int]:
    """(one event row for each of these rows of a raw batch that the platform wrote, how many could not be read)."""
    words: list[str] = []
    right: list[int] = []
    topics, devices = (batch.column(name).take(pa.array(platform)).to_pylist() for name in ("topic", "device"))
    for row, topic, device in zip(platform.tolist(), topics, devices, strict=True):
        try:
            named, event = parse_platform(topic)
            if named != device:
                raise ContractError(f"topic {topic[:120]!r}: its row is of device {device[:80]!r}")
        except ContractError as error:
            log.error("platform row %d is skipped: %s", row, error)
            continue
        words.append(event)
        right.append(row)
    taken = batch.take(pa.array(right, pa.int32()))
    own = {
        "metric": pa.array(words, pa.string()),
        "time": taken.column("received_at"),
        "raw_row": pa.array(right, pa.int32()),
        "payload": taken.column("payload"),
    }
    return _batch(taken, own), len(platform) - len(right)


def merged(found: pa.RecordBatch, platform: pa.RecordBatch) -> pa.RecordBatch:
    """Both in order of (raw_row, reading_index): an event row is the only one of its raw row."""
    if not len(platform):
        return found
    both = pa.Table.from_batches([found, platform]).unify_dictionaries().combine_chunks().to_batches()[0]
    return both.take(pa.array(np.argsort(both.column("raw_row").to_numpy(), kind="stable")))


def _times(taken: Any) -> Int64:
    """When each happened: what the message's `ts` says, else its receipt."""
    received = milliseconds(taken.column("received_at"))
    given = numbers(taken.column("ts"), moment_text, NO_TIME, {})
    return np.where((given >= MIN_TIME_MS) & (given <= MAX_TIME_MS), given, received)


def _whole(values: Int64) -> Any:
    return pa.array(values, mask=values < 0)


def _batch(taken: Any, own: dict[str, Any]) -> pa.RecordBatch:
    rows = len(taken)
    own |= {
        "verdict": pa.array(np.full(rows, Verdict.EVENT, np.uint8)),
        "device": taken.column("device"),
        "publisher": taken.column("device"),
        "quality": pa.array(np.zeros(rows, np.uint8)),
        "received_at": taken.column("received_at"),
        "reading_index": pa.array(np.zeros(rows, np.int32)),
    }
    columns = [_column(own.get(field.name), field.type, rows) for field in SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _column(values: Any, kind: Any, rows: int) -> Any:
    if values is None:
        values = pa.nulls(rows, pa.string() if pa.types.is_dictionary(kind) else kind)
    return values.dictionary_encode() if pa.types.is_dictionary(kind) else values
