"""What the detectors make of the simulated fleet: faults found, and incidents about nothing.

A fleet of a thousand devices (local/fleet: climate sensors, motors, meters; their daily patterns, noise and faults)
speaks every five minutes for two weeks. Four days are warm-up; on each of the ten that follow one device in twenty has
a fault, spikes of a quarter of an hour, drifts, stuck sensors and drop-outs of two to seven hours. The stage's own core
judges it with the settings that come with Millrace: 10,000 device-days.

A fault is found when an incident of its device (and metric) opens while it lasts or within an hour after. An incident
that no fault explains is false: none of its device lasted, or ended within an hour before it.

    python -m benchmarks.faults --seed 7      # or: millrace bench faults
"""

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks.figures import Figure, cpu_s
from local.fleet.faults import Fault, Label, draw
from local.fleet.kinds import GATEWAY, METRICS
from local.fleet.population import Population, build
from local.fleet.signals import DAY_MS, Signals
from schemas import readings
from schemas.control import Device, device_key
from schemas.headers import Version
from streams.anomaly.core import outputs, watch
from streams.anomaly.core.parts import Parts, Seen
from streams.anomaly.core.plan import Plan
from streams.anomaly.detectors import Detectors, check, default

SEEDS: Final = (101, 102, 103)
"""Seeds of the report; settings and detectors were tuned on others."""
STEP_MS: Final = 300_000
WARM_UP_DAYS: Final = 4
AFTER_MS: Final = 3_600_000
SITES: Final = 20
_START_MS: Final = 1_790_000_000_000 // DAY_MS * DAY_MS
_MS: Final = pa.timestamp("ms", "UTC")


@dataclass(slots=True)
class Result:
    """Of one fleet."""

    device_days: int
    readings: int
    cpu_s: float
    labels: list[Label]
    delays_s: dict[str, list[float]] = field(default_factory=dict)
    """Of the faults that were found, by kind: from the first bad reading to the incident."""
    missed: list[Label] = field(default_factory=list)
    false: list[dict[str, Any]] = field(default_factory=list)
    incidents: int = 0


class Fleet:
    """Readings of a fleet, a batch a step. Devices have their own moment within each step."""

    def __init__(self, seed: int, devices: int, days: int, share: float) -> None:
        self.random = np.random.default_rng([seed, 77])
        self.population = Population(tuple(m for m in build(devices).members if m.kind is not GATEWAY), ())
        self.members = np.arange(len(self.population.members))
        self.phase_ms = self.random.integers(0, STEP_MS, len(self.members))
        self.days = [self._day(day, share) for day in range(days)]
        names = sorted({m.name for member in self.population.members for m in member.kind.metrics})
        kinds = [member.kind for member in self.population.members]
        self._metric = np.array([[names.index(m.name) for m in kind.metrics] for kind in kinds], np.int32)
        self._decimals = np.array([[10.0**m.decimals for m in kind.metrics] for kind in kinds])
        self._channel = np.array([[sorted({k.channel for k in kinds}).index(kind.channel)] * METRICS for kind in kinds])
        self._words = {
            "device": pa.array([member.id for member in self.population.members]),
            "channel": pa.array(sorted({k.channel for k in kinds})),
            "metric": pa.array(names),
        }

    def _day(self, day: int, share: float) -> tuple[Any, Any]:
        begin = _START_MS + day * DAY_MS
        faults = draw(self.population, begin, begin + DAY_MS, self.random, 0.0 if day < WARM_UP_DAYS else share)
        if day == 0:  # base values are drawn once; the days differ in their faults
            self._base = Signals(
                self.population, faults, _START_MS, np.random.default_rng(self.random.integers(1 << 40))
            )
        return faults, self._base.held(faults)

    def labels(self) -> list[Label]:
        return [label for faults, _ in self.days for label in faults.labels(self.population)]

    def steps(self) -> Iterator[tuple[int, Any]]:
        """(end of the step, batch of telemetry.readings)."""
        for step in range(len(self.days) * DAY_MS // STEP_MS):
            begin = _START_MS + step * STEP_MS
            faults, held = self.days[step * STEP_MS // DAY_MS]
            time_ms = begin + self.phase_ms
            speak = self.members[~faults.silent(self.members, time_ms)]
            speak = speak[np.argsort(time_ms[speak], kind="stable")]
            values = self._base.measure_child(speak, time_ms[speak], self.random)
            faults.apply(speak, time_ms[speak], values, held)
            values = np.round(values * self._decimals[speak]) / self._decimals[speak]
            yield begin + STEP_MS, self._batch(speak, time_ms[speak], values)

    def _batch(self, who: Any, time_ms: Any, values: Any) -> Any:
        n = len(who) * METRICS
        codes = {
            "device": np.repeat(who, METRICS),
            "channel": self._channel[who].reshape(-1),
            "metric": self._metric[who].reshape(-1),
        }
        words = {
            name: pa.DictionaryArray.from_arrays(pa.array(code.astype(np.int32)), self._words[name])
            for name, code in codes.items()
        }
        at = pa.array(np.repeat(time_ms, METRICS)).cast(_MS)
        columns = {
            **words,
            "publisher": words["device"],
            "verdict": pa.array(np.zeros(n, np.uint8)),
            "quality": pa.array(np.zeros(n, np.uint8)),
            "time": at,
            "received_at": at,
            "value": pa.array(values.reshape(-1)),
            "raw_row": pa.array(np.arange(n, dtype=np.int32)),
            "reading_index": pa.array(np.zeros(n, np.int32)),
        }
        made = [columns.get(f.name, pa.nulls(n, f.type)) for f in readings.SCHEMA]
        return pa.RecordBatch.from_arrays(made, schema=readings.SCHEMA)


def judge(fleet: Fleet, settings: Detectors) -> tuple[list[dict[str, Any]], int, float]:
    """(rows of telemetry.incidents, readings, CPU seconds of the core) of a fleet under these settings."""
    parts = Parts(Plan(settings))
    _register(parts, fleet.population)
    rows: list[dict[str, Any]] = []
    count, cost_s = 0, 0.0
    for now_ms, batch in fleet.steps():
        begin = cpu_s()
        parts.seen = Seen()
        watch.readings(parts, batch)
        watch.tick(parts, now_ms)
        while len(parts.pending.anomalies):
            parts.pending.anomalies.take()
        while len(parts.pending.incidents):
            found = outputs.incidents_batch(parts.pending.incidents.take(), parts.pending, parts.table, parts.owners)
            rows += _plain(found)
        cost_s += cpu_s() - begin
        count += batch.num_rows
    return rows, count, cost_s


def _register(parts: Parts, population: Population) -> None:
    for n, member in enumerate(population.members):
        device = Device(member.id, member.kind.role, labels={"site": f"site-{n * 7 % SITES}"})
        parts.registry.take(device_key(device.id), Version(0, n), device.encode())


def _plain(batch: Any) -> list[dict[str, Any]]:
    columns = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in batch.columns]
    return list(pa.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist())


def evaluate(seed: int, settings: Detectors, devices: int = 1000, days: int = 14, share: float = 0.05) -> Result:
    fleet = Fleet(seed, devices, days, share)
    rows, count, cost_s = judge(fleet, settings)
    labels = fleet.labels()
    result = Result(len(fleet.members) * (days - WARM_UP_DAYS), count, cost_s, labels)
    opened = [row for row in rows if row["state"] == "opened"]
    result.incidents = len(opened)
    by_device: dict[str, list[Label]] = {}
    for label in labels:
        by_device.setdefault(label.device, []).append(label)
    found_ms: dict[int, int] = {}
    for row in opened:
        at = row["opened_at"]
        lasting = [one for one in by_device.get(row["device"], []) if one.from_ms <= at <= one.to_ms + AFTER_MS]
        if not lasting and at >= _START_MS + WARM_UP_DAYS * DAY_MS:
            result.false.append(row)
        for label in lasting:
            if label.metric in (None, row["metric"]):
                found_ms.setdefault(id(label), at)
    for label in labels:
        if id(label) in found_ms:
            result.delays_s.setdefault(label.fault, []).append((found_ms[id(label)] - label.from_ms) / 1000)
        else:
            result.missed.append(label)
    return result


def summary(results: list[Result]) -> Iterator[str]:
    """What a person wants to read."""
    labels = [label for result in results for label in result.labels]
    missed = [label for result in results for label in result.missed]
    days = sum(result.device_days for result in results)
    yield f"{days:,} device-days, {len(labels)} faults, {sum(r.readings for r in results):,} readings"
    for kind in [fault.name.lower() for fault in Fault if fault]:
        count = sum(label.fault == kind for label in labels)
        delays = sorted(delay / 60 for result in results for delay in result.delays_s.get(kind, []))
        typical = f"; median {statistics.median(delays):.0f} min, worst {delays[-1]:.0f} min" if delays else ""
        yield f"  {kind:9} found {len(delays)} of {count}{typical}"
    false = [row for result in results for row in result.false]
    yield f"  found {1 - len(missed) / len(labels):.1%} of all"
    yield f"  false incidents {len(false)}: {len(false) / days * 1000:.2f} in 1,000 device-days"
    for detector in sorted({row["detector"] for row in false}):
        yield f"    {detector}: {sum(row['detector'] == detector for row in false)}"
    cost_us = sum(r.cpu_s for r in results) / sum(r.readings for r in results) * 1e6
    yield f"  {cost_us:.2f} us CPU a reading, the core alone"


def figures() -> Iterator[Figure]:
    """faults_found and faults_false, over the seeds of the report."""
    results = [evaluate(seed, default()) for seed in SEEDS]
    faults = sum(len(result.labels) for result in results)
    days = sum(result.device_days for result in results)
    found = 1 - sum(len(result.missed) for result in results) / faults
    false = sum(len(result.false) for result in results) / days * 1000
    yield Figure("faults_found", found, "share", "at least", 0.9, found / 0.9)
    yield Figure("faults_false", false, "a 1000 device-days", "at most", 1.0)
    for kind in [fault.name.lower() for fault in Fault if fault]:
        delays = [delay for result in results for delay in result.delays_s.get(kind, [])]
        count = sum(label.fault == kind for result in results for label in result.labels)
        yield Figure(f"faults_found_{kind}", len(delays) / count, "share")
        yield Figure(f"faults_delay_{kind}", statistics.median(delays) if delays else float("nan"), "s")


def main() -> None:
    parser = argparse.ArgumentParser(description="Judge a simulated fleet by detector settings.")
    parser.add_argument("--seed", type=int, action="append", help="may be given several times")
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--settings", type=argparse.FileType(), help="YAML; those that come with Millrace otherwise")
    parser.add_argument("--list", action="store_true", help="false incidents and missed faults, one by one")
    given = parser.parse_args()
    settings = check(given.settings.read(), given.settings.name) if given.settings else default()
    results = [evaluate(seed, settings, given.devices, given.days) for seed in given.seed or SEEDS]
    print("\n".join(summary(results)))
    for line in _details(results) if given.list else ():
        print(line)


def _details(results: list[Result]) -> Iterator[str]:
    for result in results:
        for row in result.false:
            day = (row["opened_at"] - _START_MS) / DAY_MS
            yield f"false  {row['device']:14} {row['metric']:12} day {day:6.2f} {row['detector']}: {row['explanation']}"
        for label in result.missed:
            day, hours = (label.from_ms - _START_MS) / DAY_MS, (label.to_ms - label.from_ms) / 3.6e6
            what = f"{label.fault} of {hours:.1f} h, size {label.size:.4g}"
            yield f"missed {label.device:14} {label.metric!s:12} day {day:6.2f} {what}"


if __name__ == "__main__":
    main()
