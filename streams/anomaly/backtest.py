"""The stage's own code over readings of the past: public, for commands that try settings of detectors.

test = Backtest(detectors, devices)
for end_ms, partition, batch in minutes:    # in order of time, partitions in order
    test.take(end_ms, partition, batch)
run = test.end(now_ms)
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from schemas.control import Device, device_key
from schemas.headers import Version
from schemas.vocabulary import Severity
from streams.anomaly.core import outputs, watch
from streams.anomaly.core.parts import Parts, Seen
from streams.anomaly.core.plan import Plan
from streams.anomaly.detectors import Detectors

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000


@dataclass(slots=True)
class Run:
    """What detectors would have raised, and what it cost. Times are ms; `incidents`: by id, as their newest row says,
    with the severity by name."""

    from_ms: int = 0
    to_ms: int = 0
    readings: int = 0
    series: int = 0
    devices: int = 0
    state_bytes: int = 0
    cpu_s: float = 0.0
    points: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    incidents: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def days(self) -> float:
        return max((self.to_ms - self.from_ms) / DAY_MS, 1e-9)


class Backtest:
    """One state for each partition, a tick a minute. Not thread-safe.

    Args: the settings, and the registry as it is.
    """

    def __init__(self, detectors: Detectors, devices: Iterable[Device]) -> None:
        self.run = Run()
        self._detectors, self._devices = detectors, list(devices)
        self._parts: dict[int, Parts] = {}
        self._now_ms = 0

    def take(self, end_ms: int, partition: int, batch: pa.RecordBatch) -> None:
        """Accepted readings, as telemetry.readings has them, of the minute that ends at `end_ms`. Minutes must not go
        back."""
        self.run.from_ms = self.run.from_ms or end_ms - MINUTE_MS
        self.tick_to(end_ms - MINUTE_MS)
        parts = self._parts.get(partition) or self._new(partition)
        begin = time.process_time()
        parts.seen = Seen()
        watch.readings(parts, batch)
        self.run.cpu_s += time.process_time() - begin
        self.run.readings += parts.seen.readings
        self.run.refused.update(parts.seen.refused)
        self._collect(parts)

    def tick_to(self, end_ms: int) -> None:
        """Tick after tick up to here: one a minute, one an hour in a gap of more than a day, none beyond a month."""
        begin_ms = self._now_ms = self._now_ms or end_ms
        for step_ms, most_ms in ((MINUTE_MS, DAY_MS), (HOUR_MS, 30 * DAY_MS)):
            while self._now_ms + step_ms <= min(end_ms, begin_ms + most_ms):
                self._tick(self._now_ms + step_ms)
        if self._now_ms < end_ms:
            self._tick(end_ms)
        self.run.to_ms = max(self.run.to_ms, self._now_ms)

    def end(self, end_ms: int) -> Run:
        """Ticks up to the minute after `end_ms`, and the sums."""
        self.tick_to(max(self._now_ms, end_ms // MINUTE_MS * MINUTE_MS) + MINUTE_MS)
        run = self.run
        run.series = sum(parts.table.size for parts in self._parts.values())
        heard = (parts.table.device_of(slice(0, parts.table.size)) for parts in self._parts.values())
        run.devices = sum(len(set(device.tolist())) for device in heard)
        run.state_bytes = sum(parts.sizes()["bytes"] for parts in self._parts.values())
        return run

    def _tick(self, now_ms: int) -> None:
        self._now_ms = now_ms
        for parts in self._parts.values():
            begin = time.process_time()
            parts.seen = Seen()
            watch.tick(parts, now_ms)
            self.run.cpu_s += time.process_time() - begin
            self._collect(parts)

    def _new(self, partition: int) -> Parts:
        parts = self._parts[partition] = Parts(Plan(self._detectors))
        for number, device in enumerate(self._devices):
            parts.registry.take(device_key(device.id), Version(0, number), device.encode(with_token=False))
        parts.now_ms = self._now_ms
        return parts

    def _collect(self, parts: Parts) -> None:
        self.run.points.update(parts.seen.points)
        while len(parts.pending.anomalies):
            parts.pending.anomalies.take()
        while len(parts.pending.incidents):
            batch = outputs.incidents_batch(parts.pending.incidents.take(), parts.pending, parts.table, parts.owners)
            for row in batch.to_pylist():
                self.run.incidents[row["incident"]] = row | {"severity": severity(row)}


def severity(row: Mapping[str, Any]) -> str:
    """By name, of a row of telemetry.incidents."""
    return Severity(row["severity"]).name.lower()
