"""Changes of incidents of single series: their output rows, and counts for metrics."""

import numpy as np

from runtime.columns.types import Int64
from streams.anomaly.core import ids
from streams.anomaly.core.incidents import Event, News
from streams.anomaly.core.parts import Parts
from streams.anomaly.core.plan import SLOTS

_SAME = ("severity", "opened_ms", "peak_ms", "last_ms", "peak_value", "peak_score", "low", "high", "facts", "points")


def detectors(parts: Parts, keys: Int64) -> Int64:
    """Index in `pending.words` of the name of each key's detector."""
    places = parts.rules[keys // SLOTS].astype(np.int64) * SLOTS + keys % SLOTS
    distinct, which = np.unique(places, return_inverse=True)
    names = [parts.plan.name(place // SLOTS, place % SLOTS) or "" for place in distinct.tolist()]
    return np.array([parts.pending.words.add(name) for name in names], np.int64)[which]


def incident_id(parts: Parts, key: int, opened_ms: int) -> int:
    """Id of an incident of a single series that opens now."""
    series, slot = divmod(key, SLOTS)
    detector = parts.plan.name(int(parts.rules[series]), slot)
    return ids.of_series(*parts.table.name(series), detector or "", opened_ms)


def changed(parts: Parts, news: News, part_of: int = 0) -> None:
    """Add an output row for each change of an incident; `part_of`: id of the group's incident that absorbs them."""
    for event, rows in news:
        if not len(rows):
            continue
        names, size = detectors(parts, rows["key"]), len(rows)
        parts.pending.changed(
            {
                "incident": rows["id"],
                "event": np.full(size, event),
                "detector": names,
                "slot": rows["key"] % SLOTS,
                "series": rows["key"] // SLOTS,
                "time_ms": np.full(size, parts.now_ms),
                "closed_ms": rows["closed_ms"],
                "devices": np.ones(size),
                "part_of": np.full(size, part_of, np.uint64),
                **{name: rows[name] for name in _SAME},
            }
        )
        words = [parts.pending.words.word(name) for name in names.tolist()]
        if event is Event.OPENED:
            parts.seen.opened.update(zip(words, rows["severity"].tolist(), strict=True))
        elif event is Event.CLOSED:
            parts.seen.closed.update(words)
