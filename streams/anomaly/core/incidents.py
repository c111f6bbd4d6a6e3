"""Points become incidents: one of a series and detector at a time, from its first strange reading until none came for a
while. A bounded table, sorted by (series, slot); each change is written as a row (outputs.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.types import Bool, Int64
from schemas.vocabulary import Severity
from streams.anomaly.core.plan import SILENCE, SLOTS

OPEN, COOLING = 1, 2
MAX_INCIDENTS: Final = 10_000
"""Of a partition, those that cool down included. What was strange longest ago is closed to make room for others."""
MAX_OPENED: Final = 5_000
"""By one record; points that would open more are refused and counted."""
SEVERE: Final = 0.9
"""From this score on an incident is one step worse than its detector says."""
_UPDATE_INTERVAL_MS: Final = 10_000
_UPDATE_SCORE: Final = 0.1
_UPDATE_FACTOR: Final = 10
"""An update is written when it is worse by a step of severity or so much score, or has so many times the points;
and not more often than every ten seconds."""

ROW: Final = np.dtype(
    [
        ("key", "i8"),
        ("id", "u8"),
        ("state", "u1"),
        ("severity", "u1"),
        ("opened_ms", "i8"),
        ("peak_ms", "i8"),
        ("last_ms", "i8"),
        ("seen_ms", "i8"),
        ("closed_ms", "i8"),
        ("points", "i8"),
        ("peak_value", "f8"),
        ("peak_score", "f8"),
        ("low", "f8"),
        ("high", "f8"),
        ("facts", "f8", (3,)),
        ("told_severity", "u1"),
        ("told_score", "f8"),
        ("told_points", "i8"),
        ("told_ms", "i8"),
    ]
)
"""`opened_ms`, `peak_ms`, `last_ms`: event times; `seen_ms`, `closed_ms`: stream time of the last point and of
the closing. `told_…`: values of the last row written for it."""

Rows = Any
"""An array of ROW."""


@dataclass(frozen=True, slots=True)
class Strange:
    """Points as incidents see them, in order: `key` is series * SLOTS + slot; the rest as in points.py."""

    key: Int64
    time_ms: Int64
    value: Any
    score: Any
    low: Any
    high: Any
    facts: Any
    severity: Any

    def where(self, rows: Any) -> "Strange":
        return Strange(*(getattr(self, name)[rows] for name in Strange.__dataclass_fields__))


class Event(IntEnum):
    """What a row reports; the order is that of vocabulary.IncidentState."""

    OPENED = 0
    UPDATED = 1
    CLOSED = 2


News = list[tuple[Event, Rows]]
"""Copies of rows, and what happened to them."""
Quiet = Callable[[Int64], Int64]
"""Of keys, after how many ms without a strange reading each incident closes."""


class Incidents:
    """The incidents of single series: `rows`, sorted by key."""

    def __init__(self) -> None:
        self.rows: Rows = np.zeros(0, ROW)

    @property
    def open(self) -> int:
        return int(np.count_nonzero(self.rows["state"] == OPEN))

    def find(self, keys: Int64) -> Int64:
        """Place of each key's row, -1 where there is none."""
        if not len(self.rows):
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(self.rows["key"], keys), len(self.rows) - 1)
        return np.where(self.rows["key"][at] == keys, at, -1)

    def points_of(self, keys: Int64) -> Int64:
        """Points so far of each key's incident."""
        at = self.find(keys)
        return np.where(at >= 0, self.rows["points"][at], 0) if len(self.rows) else np.zeros(len(keys), np.int64)

    def take(self, strange: Strange, now_ms: int, name: Callable[[int, int], int]) -> tuple[Any, News]:
        """(uint64[points], id of each point's incident, 0 where it was refused; what happened).

        `name(key, opened_ms)` gives the id of a new one. What comes back while it cools down is the same incident.
        """
        keys, first = np.unique(strange.key, return_index=True)
        new = np.sort(first[self.find(keys) < 0])[:MAX_OPENED]
        news: News = [(Event.CLOSED, self._make_room(len(new), now_ms))]
        self._insert(strange.where(new), now_ms, name)
        places = self.find(strange.key)
        back = np.unique(places[places >= 0])
        back = back[self.rows["state"][back] == COOLING]
        self.rows["state"][back], self.rows["closed_ms"][back] = OPEN, -1
        let_in = places >= 0
        self._add(strange.where(let_in), places[let_in], now_ms)
        news.append((Event.OPENED, self._reported(self.find(np.sort(strange.key[new])), now_ms)))
        news.append((Event.UPDATED, self._reported(back, now_ms)))
        ids = np.zeros(len(places), np.uint64)
        ids[let_in] = self.rows["id"][places[let_in]]
        return ids, news

    def _make_room(self, count: int, now_ms: int) -> Rows:
        crowd = len(self.rows) + count - MAX_INCIDENTS
        if crowd <= 0:
            return self.rows[:0]
        return self.drop(np.sort(np.argsort(self.rows["seen_ms"], kind="stable")[:crowd]), now_ms)

    def _insert(self, strange: Strange, now_ms: int, name: Callable[[int, int], int]) -> None:
        """Rows for these keys, which have none, without points yet."""
        rows = np.zeros(len(strange.key), ROW)
        rows["key"], rows["opened_ms"], rows["state"] = strange.key, strange.time_ms, OPEN
        pairs = zip(strange.key.tolist(), strange.time_ms.tolist(), strict=True)
        rows["id"] = np.array([name(key, opened_ms) for key, opened_ms in pairs], np.uint64)
        rows["closed_ms"], rows["seen_ms"] = -1, now_ms
        if len(rows):
            both = np.concatenate([self.rows, rows])
            self.rows = both[np.argsort(both["key"])]

    def _add(self, strange: Strange, at: Int64, now_ms: int) -> None:
        rows = self.rows
        np.add.at(rows["points"], at, 1)
        rows["seen_ms"][at] = now_ms
        rows["last_ms"][at] = strange.time_ms  # of several the last to come
        order = np.lexsort((-np.arange(len(at)), strange.score, at))  # the worst of each incident last, the first such
        worst = order[np.append(at[order][1:] != at[order][:-1], True)] if len(at) else order
        worst = worst[strange.score[worst] > rows["peak_score"][at[worst]]]
        to = at[worst]
        rows["peak_ms"][to], rows["peak_value"][to] = strange.time_ms[worst], strange.value[worst]
        rows["low"][to], rows["high"][to] = strange.low[worst], strange.high[worst]
        rows["facts"][to], rows["peak_score"][to] = strange.facts[worst], strange.score[worst]
        severity = strange.severity[worst] + (strange.score[worst] >= SEVERE)
        rows["severity"][to] = np.maximum(rows["severity"][to], np.minimum(severity, Severity.CRITICAL))

    def tick(self, now_ms: int, quiet_ms: Quiet, cool_down_ms: int) -> News:
        """Close what was quiet, forget what has cooled down. A silence closes when a reading of the series arrives."""
        rows = self.rows
        if not len(rows):
            return []
        maybe = positions((rows["state"] == OPEN) & (rows["key"] % SLOTS != SILENCE))
        quiet = maybe[rows["seen_ms"][maybe] + quiet_ms(rows["key"][maybe]) < now_ms]
        closed = self.close(quiet, now_ms)
        updated = self._reported(positions((rows["state"] == OPEN) & self._needs_update(now_ms)), now_ms)
        self.rows = rows[(rows["state"] == OPEN) | (rows["closed_ms"] + cool_down_ms >= now_ms)]
        return [(Event.UPDATED, updated), (Event.CLOSED, closed)]

    def _needs_update(self, now_ms: int) -> Bool:
        rows = self.rows
        changed: Bool = rows["severity"] > rows["told_severity"]
        changed |= rows["peak_score"] >= rows["told_score"] + _UPDATE_SCORE
        changed |= rows["points"] >= _UPDATE_FACTOR * rows["told_points"]
        changed &= rows["told_ms"] + _UPDATE_INTERVAL_MS <= now_ms
        return changed

    def close(self, places: Int64, now_ms: int) -> Rows:
        """Close these rows, which are open, and return them; they cool down."""
        self.rows["state"][places], self.rows["closed_ms"][places] = COOLING, now_ms
        return self._reported(places, now_ms)

    def drop(self, places: Int64, now_ms: int) -> Rows:
        """Close these rows and forget them: what follows is another incident. Returns those that were open."""
        found = self.close(places[self.rows["state"][places] == OPEN], now_ms)
        keep = np.ones(len(self.rows), bool)
        keep[places] = False
        self.rows = self.rows[keep]
        return found

    def _reported(self, places: Int64, now_ms: int) -> Rows:
        rows = self.rows
        for reported, current in (
            ("told_severity", "severity"),
            ("told_score", "peak_score"),
            ("told_points", "points"),
        ):
            rows[reported][places] = rows[current][places]
        rows["told_ms"][places] = now_ms
        return rows[places].copy()
