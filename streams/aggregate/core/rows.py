"""Partials to a batch of telemetry.aggregates: those of devices, and of the groups that they make."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from runtime.columns.arrays import dense
from runtime.columns.registry import RegistryColumns
from runtime.columns.series import SeriesTable, dictionary
from runtime.columns.types import Int32, Int64
from runtime.stage.cursor import Pending
from schemas.aggregates import DEVICE, SCHEMA
from streams.aggregate.core import groups
from streams.aggregate.core.partials import COLUMNS, Rows

_MOST_ROWS: Final = 90_000
_MOST_BYTES: Final = 12 << 20
"""What a record holds at most, if every device is a group of its own; the topic takes 16 MB."""
_OF_WINDOW: Final = ("window_start", "window_ms", "part")


@dataclass(frozen=True, slots=True)
class _Share:
    """The rows of one scope. `who`: place in `names` of each row's device, or value of the label; `like`: a row of the
    devices that has the same channel, metric and window."""

    scope: str
    rows: Rows
    who: Int32
    names: Any
    like: Int64


def waiting() -> Pending:
    """For partials of devices that were closed and not written yet."""
    columns: dict[str, npt.DTypeLike] = {"series": "i4", "window_start": "i8", "window_ms": "i4", "part": "u1"}
    columns |= {name: kind for name, (kind, _) in COLUMNS.items()} | {"size": "i4", "buckets": "i4", "counts": "i8"}
    return Pending(columns, lists={"buckets": "size", "counts": "size"})


def bound(pending: Pending, labels: int) -> None:
    """Take so much for a record that the partials of groups by so many labels fit in, too."""
    pending.most_rows, pending.most_bytes = _MOST_ROWS // (1 + labels), _MOST_BYTES // (1 + labels)


def build(rows: Rows, series: SeriesTable, registry: RegistryColumns, wanted: Sequence[str]) -> pa.RecordBatch:
    """The batch (schemas.aggregates.SCHEMA): the rows, then for each wanted label those of its groups."""
    number = rows["series"]
    device, channel, metric = series.device_of(number), series.channel_of(number), series.metric_of(number)
    known, who = dense(device)
    shares = [_Share(DEVICE, rows, who, series.devices.ids(known), np.arange(len(who)))]
    if wanted:
        shares += _groups(rows, device, groups.kinds(channel, metric, *(rows[n] for n in _OF_WINDOW)), registry, wanted)
    like = np.concatenate([share.like for share in shares])
    found = {name: _numbers(name, rows[name][like]) for name in _OF_WINDOW}
    found |= {name: _numbers(name, np.concatenate([share.rows[name] for share in shares])) for name in COLUMNS}
    found |= _sketches(shares) | _names(shares)
    found |= {
        "channel": dictionary(channel[like], series.channels.words),
        "metric": dictionary(metric[like], series.metrics.words),
    }
    return pa.RecordBatch.from_arrays([found[name] for name in SCHEMA.names], schema=SCHEMA)


def _groups(
    rows: Rows, device: Int64, kind: Int64, registry: RegistryColumns, wanted: Sequence[str]
) -> Iterator[_Share]:
    for label in wanted:
        values = registry.values(label).take(device)
        if values.max(initial=-1) < 0:
            continue
        found, like = groups.fold(rows, values, kind)
        used, who = dense(values[like].astype(np.int64))
        yield _Share(
            label, found, who, pa.array([registry.word(label, code) for code in used.tolist()], pa.string()), like
        )


def _names(shares: Sequence[_Share]) -> dict[str, Any]:
    """Columns scope and device."""
    scope = np.repeat(np.arange(len(shares), dtype=np.int32), [len(share.who) for share in shares])
    begins = np.cumsum([0, *(len(share.names) for share in shares)], dtype=np.int32)
    who = np.concatenate([share.who + begin for share, begin in zip(shares, begins, strict=False)])
    words = pa.concat_arrays([share.names for share in shares])
    return {"scope": _coded(scope, pa.array([share.scope for share in shares])), "device": _coded(who, words)}


def _sketches(shares: Sequence[_Share]) -> dict[str, Any]:
    offsets = np.zeros(sum(len(share.who) for share in shares) + 1, np.int32)
    np.cumsum(np.concatenate([share.rows["size"] for share in shares]), out=offsets[1:])
    lists = {"sketch_buckets": "buckets", "sketch_counts": "counts"}
    return {
        name: pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate([s.rows[own] for s in shares])))
        for name, own in lists.items()
    }


def _numbers(name: str, values: Any) -> Any:
    return pa.Array.from_buffers(SCHEMA.field(name).type, len(values), [None, pa.py_buffer(values)])


def _coded(codes: Int32, words: Any) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(codes), words)
