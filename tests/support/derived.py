"""Valid records of the derived topics, made up: what stages behind access would say of a chain's readings.

Exactly one record for each tick on each topic, and others where there is something to say. `expected` holds what the
tables must hold, row for row: a row is (epoch, partition, offset, row in the record, what it says).
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from types import ModuleType

import pyarrow as pa

from schemas import aggregates, anomalies, incidents, ipc, presence
from schemas.headers import DerivedHeaders, Provenance
from schemas.vocabulary import IncidentState, Kind, Presence

Headers = list[tuple[str, bytes]]
Row = dict[str, object]
Send = Callable[[str, int, Headers, bytes], None]
MINUTE_MS = 60_000
TOPICS = (aggregates, anomalies, incidents, presence)
TABLES = {
    "aggregates_1m": ("device", "metric", "count", "sum"),
    "group_aggregates_1m": ("scope", "name", "metric", "count"),
    "anomalies": ("device", "incident", "value", "raw_row"),
    "incidents": ("incident", "state", "points"),
    "presence": ("device", "state", "reason"),
}
"""The columns that Expected gives of each table, after the name of the row."""
_TABLE = {aggregates: "aggregates_1m", anomalies: "anomalies", incidents: "incidents", presence: "presence"}


@dataclass
class Expected:
    tables: dict[str, Counter[tuple[object, ...]]] = field(default_factory=lambda: {name: Counter() for name in TABLES})
    newest: dict[str, str] = field(default_factory=dict)
    """State of each device."""
    windows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("counted", "open", "texts", "refused"), 0))
    """What the section of the ledger must say when nothing is in flight."""
    records: int = 0

    def add(self, other: "Expected") -> None:
        for name, rows in other.tables.items():
            self.tables[name].update(rows)
        for count in self.windows:
            self.windows[count] += other.windows[count]
        self.newest.update(other.newest)
        self.records += other.records


class Stages:
    """The stages of one partition."""

    def __init__(self, send: Send, partition: int, epoch: int = 0, seed: int = 0) -> None:
        self.send, self.partition, self.epoch = send, partition, epoch
        self.random = random.Random(seed * 1000 + partition)
        self.expected = Expected()
        self.prev: dict[str, int] = {module.NAME: -1 for module in TOPICS}
        self.last: dict[str, tuple[Headers, bytes]] = {}
        self.waiting = {"readings": 0, "folded": 0, "texts": 0, "refused": 0}
        self.quiet = False
        """Have nothing to say but what was counted before."""
        self.busy_until: dict[str, int] = {module.NAME: -1 for module in TOPICS}
        """Raw offset of the last record of each topic that reported something."""

    def take(self, offset: int, kind: Kind, time_ms: int, readings: int) -> None:
        """A record of readings. Whether there is something to say is chance."""
        self._count(readings)
        for module in TOPICS:
            if kind is Kind.TICK or self.random.random() < 0.2:
                self.say(module, offset, kind, time_ms, self.rows(module, time_ms))

    def say(self, module: ModuleType, offset: int, kind: Kind, time_ms: int, rows: list[Row]) -> tuple[Headers, bytes]:
        """Write a record; what was written is remembered as expected."""
        busy = rows or (module is aggregates and self.waiting["readings"])
        counts = tuple(self._counts(rows).items()) if module is aggregates else ()
        given = DerivedHeaders(f"{module.NAME}/{module.VERSION}", kind, time_ms, len(rows), counts).encode()
        given += Provenance(self.epoch, offset, self.prev[module.NAME]).encode()
        value = ipc.encode(pa.RecordBatch.from_pylist(rows, schema=module.SCHEMA)) if rows else b""
        self.send(module.NAME, self.partition, given, value)
        self.prev[module.NAME], self.last[module.NAME] = offset, (given, value)
        self.busy_until[module.NAME] = offset if busy else self.busy_until[module.NAME]
        self.expected.records += 1
        for place, row in enumerate(rows):
            self._expect(module, (self.epoch, self.partition, offset, place), row)
        return given, value

    def repeat(self, module: ModuleType) -> None:
        """Write the last record again, as a zombie of the stage would."""
        if module.NAME in self.last:
            self.send(module.NAME, self.partition, *self.last[module.NAME])

    def rows(self, module: ModuleType, time_ms: int, few: int = 4) -> list[Row]:
        """Up to `few` rows, of which aggregates hold no more readings than are open."""
        if self.quiet:
            return []
        made = {aggregates: self._windows, anomalies: _anomaly, incidents: _incident, presence: _change}[module]
        rows = [made(self.partition, self.random, time_ms) for _ in range(self.random.choice((0, 0, few)))]
        return [row for some in rows for row in (some if isinstance(some, list) else [some])]

    def _count(self, readings: int) -> None:
        texts, refused = min(readings, self.random.randrange(3)), 0
        refused = min(readings - texts, self.random.randrange(2))
        for name, count in (("texts", texts), ("refused", refused), ("folded", readings - texts - refused)):
            self.waiting[name] += count
        self.waiting["readings"] += readings
        self.expected.windows["open"] += readings - texts - refused

    def _windows(self, partition: int, rng: random.Random, time_ms: int) -> list[Row]:
        """A partial of a device and the same of its site. Takes from what is open."""
        count = min(self.expected.windows["open"], rng.randrange(1, 9))
        if not count:
            return []
        self.expected.windows["open"] -= count
        values = [float(rng.randrange(100)) for _ in range(count)]
        start = (time_ms or int(time.time() * 1000)) // MINUTE_MS * MINUTE_MS - rng.randrange(3) * MINUTE_MS
        of_device = _partial(f"dev-{partition}-{rng.randrange(7)}", start, values)
        return [of_device, of_device | {"scope": "site", "device": f"site-{rng.randrange(2)}"}]

    def _counts(self, rows: list[Row]) -> dict[str, int]:
        emitted = sum(int(str(r["count"])) for r in rows if r["scope"] == aggregates.DEVICE)
        said = self.waiting | {"emitted": emitted, "open": self.expected.windows["open"]}
        self.waiting = dict.fromkeys(self.waiting, 0)
        self.expected.windows["counted"] += emitted
        for name in ("texts", "refused"):
            self.expected.windows[name] += said[name]
        return {name: said[name] for name in aggregates.COUNTS}

    def _expect(self, module: ModuleType, name: tuple[object, ...], row: Mapping[str, object]) -> None:
        table = {aggregates: "aggregates_1m", anomalies: "anomalies", incidents: "incidents", presence: "presence"}[
            module
        ]
        if module is aggregates and row["scope"] != aggregates.DEVICE:
            table, row = "group_aggregates_1m", {**row, "name": row["device"]}
        self.expected.tables[table][(*name, *(row.get(column) for column in TABLES[table]))] += 1
        if module is presence:
            self.expected.newest[str(row["device"])] = str(row["state"])


def _partial(device: str, start_ms: int, values: list[float]) -> Row:
    return {
        "scope": aggregates.DEVICE,
        "device": device,
        "channel": "climate",
        "metric": "temperature",
        "window_start": start_ms,
        "window_ms": MINUTE_MS,
        "part": 0,
        "count": len(values),
        "sum": sum(values),
        "sum_squares": sum(v * v for v in values),
        "mean": fmean(values),
        "m2": sum((v - fmean(values)) ** 2 for v in values),
        "min": min(values),
        "max": max(values),
        "first": values[0],
        "last": values[-1],
        "first_time": start_ms,
        "last_time": start_ms + len(values),
        "sketch_buckets": [],
        "sketch_counts": [],
    }


def _anomaly(partition: int, rng: random.Random, time_ms: int) -> Row:
    silent = rng.random() < 0.2
    return {
        "incident": f"{rng.randrange(9):016x}",
        "detector": "silence" if silent else "residual",
        "device": f"dev-{partition}-{rng.randrange(7)}",
        "publisher": f"dev-{partition}-0",
        "channel": "climate",
        "metric": "temperature",
        "time": time_ms,
        "received_at": int(time.time() * 1000),
        "value": None if silent else float(rng.randrange(100)),
        "score": rng.random(),
        "low": None if silent else 20.1,
        "high": None if silent else 22.4,
        "severity": rng.randrange(3),
        "explanation": "38.2; usual at this hour 20.1 to 22.4",
        "raw_row": None if silent else rng.randrange(1000),
        "reading_index": None if silent else 0,
    }


def _incident(partition: int, rng: random.Random, time_ms: int) -> Row:
    state = rng.choice(list(IncidentState))
    return {
        "incident": f"{rng.randrange(9):016x}",
        "state": state.value,
        "detector": "residual",
        "scope": aggregates.DEVICE,
        "device": f"dev-{partition}-{rng.randrange(7)}",
        "publisher": f"dev-{partition}-0",
        "channel": "climate",
        "metric": "temperature",
        "time": time_ms,
        "opened_at": time_ms - 5000,
        "peak_at": time_ms - 2000,
        "last_at": time_ms - 1000,
        "closed_at": time_ms if state is IncidentState.CLOSED else None,
        "peak_value": 38.2,
        "peak_score": rng.random(),
        "low": 20.1,
        "high": 22.4,
        "points": rng.randrange(1, 50),
        "devices": 1,
        "severity": rng.randrange(3),
        "explanation": "38.2; usual at this hour 20.1 to 22.4",
    }


def _change(partition: int, rng: random.Random, time_ms: int) -> Row:
    return {
        "device": f"dev-{partition}-{rng.randrange(7)}",
        "publisher": f"dev-{partition}-0",
        "state": rng.choice(list(Presence)).value,
        "reason": "silence",
        "since": time_ms - 1000,
        "time": time_ms,
        "last_seen": time_ms - 1000,
        "expected_s": None,
        "flaps": 0,
    }
