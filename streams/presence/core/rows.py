"""Changes as a batch of telemetry.presence."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from runtime.columns.types import Bool, Float64, Int32, Int64
from schemas.presence import SCHEMA
from schemas.vocabulary import Presence
from streams.presence.core.devices import BEFORE, Is, Why

MOST_ROWS: Final = 20_000
"""Of a record; at most 160 bytes each. More rows wait for the next tick."""
_STATES: Final = pa.array([Presence.OFFLINE, Presence.ONLINE], pa.string())
_REASONS: Final = pa.array([why.name.lower() for why in Why], pa.string())
_MS: Final = pa.timestamp("ms", "UTC")


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows to write, one entry per row: numbers of `device` and `publisher`, `state` as Is and `why` as Why, times
    in milliseconds; `seen_ms` BEFORE and `expected_ms` NaN where there is none."""

    device: Int32
    publisher: Int32
    state: Any
    why: Any
    since_ms: Int64
    seen_ms: Int64
    expected_ms: Float64
    flaps: Int32


def both(one: Changes | None, other: Changes | None) -> Changes | None:
    """The rows of one, then those of the other."""
    if one is None or other is None:
        return one or other
    return Changes(*(np.concatenate([getattr(part, name) for part in (one, other)]) for name in Changes.__slots__))


def batch(changes: Changes, time_ms: int, ids: Any) -> pa.RecordBatch:
    """The batch (schemas.presence.SCHEMA). `ids`: numbers to a StringArray."""
    rows = len(changes.device)
    never: Bool = changes.seen_ms == BEFORE
    unknown: Bool = np.isnan(changes.expected_ms)
    columns = {
        "device": ids(changes.device),
        "publisher": ids(changes.publisher),
        "state": _words((changes.state == Is.ONLINE).astype(np.int32), _STATES),
        "reason": _words(changes.why.astype(np.int32), _REASONS),
        "since": pa.array(changes.since_ms, _MS),
        "time": pa.array(np.full(rows, time_ms, np.int64), _MS),
        "last_seen": pa.array(np.where(never, 0, changes.seen_ms), _MS, mask=never),
        "expected_s": pa.array(np.where(unknown, 0.0, changes.expected_ms / 1000), mask=unknown),
        "flaps": pa.array(changes.flaps, pa.int32()),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _words(codes: Int32, words: Any) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(codes), words)
