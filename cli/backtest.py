"""`millrace backtest`: what detector settings would have raised over readings that ClickHouse holds, and their cost."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import orjson
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from cli import inband
from cli.context import Servers, data_option, settings
from cli.times import Moment
from identity.registry.store import Registry
from operations import history
from operations.history import HOUR_MS, MINUTE_MS, Wanted
from operations.incidents import SEVERITIES
from runtime.clickhouse.client import ClickHouse
from runtime.errors import MillraceError
from schemas.control import Device, device_key
from schemas.headers import Version
from schemas.vocabulary import IncidentState
from streams.anomaly.core import outputs, watch
from streams.anomaly.core.parts import Parts, Seen
from streams.anomaly.core.plan import Plan
from streams.anomaly.detectors import Detectors, check

DAY_MS: Final = 86_400_000


@dataclass(slots=True)
class Run:
    """What came of it. `incidents`: by id, as their newest row says."""

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

    def plain(self) -> dict[str, Any]:
        return {
            "from": _moment(self.from_ms),
            "to": _moment(self.to_ms),
            "readings": self.readings,
            "series": self.series,
            "devices": self.devices,
            "us_a_reading": round(self.cpu_s / max(1, self.readings) * 1e6, 3),
            "bytes_a_series": round(self.state_bytes / max(1, self.series)),
            "incidents_a_day": round(len(self.incidents) / self.days, 3),
            "points": dict(self.points),
            "refused": dict(self.refused),
            "incidents": list(self.incidents.values()),
        }


class Backtest:
    """The stage's own core over readings of the past: one state for each partition, a tick a minute."""

    def __init__(self, found: Detectors, devices: Mapping[str, Device]) -> None:
        self.run = Run()
        self._detectors, self._devices = found, devices
        self._parts: dict[int, Parts] = {}
        self._now_ms = 0

    def take(self, rows: pa.Table) -> None:
        """Readings of a chunk, in order."""
        for end_ms, partition, batch in history.minutes(rows):
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
        for number, device in enumerate(self._devices.values()):
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
                self.run.incidents[row["incident"]] = row | {"severity": SEVERITIES[row["severity"]]}

    def end(self, end_ms: int) -> Run:
        """Ticks up to the minute after `end_ms`, and the sums."""
        self.tick_to(max(self._now_ms, end_ms // MINUTE_MS * MINUTE_MS) + MINUTE_MS)
        run = self.run
        run.series = sum(parts.table.size for parts in self._parts.values())
        heard = (parts.table.device_of(slice(0, parts.table.size)) for parts in self._parts.values())
        run.devices = sum(len(set(device.tolist())) for device in heard)
        run.state_bytes = sum(parts.sizes()["bytes"] for parts in self._parts.values())
        return run


@click.command()
@inband.file_argument
@click.option("--since", type=Moment(), help="From this time on (or 15m, 2h, 7d ago); all there is otherwise.")
@click.option("--until", type=Moment(), help="Up to this time.")
@click.option("--device", "devices", multiple=True, help="Only this device; may be given several times.")
@click.option("--metric", "metrics", multiple=True, help="Only this metric; may be given several times.")
@click.option("--examples", default=10, show_default=True, type=click.IntRange(0, 10_000))
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every incident.")
@data_option
def backtest(
    file: Path,
    since: datetime | None,
    until: datetime | None,
    devices: tuple[str, ...],
    metrics: tuple[str, ...],
    examples: int,
    as_json: bool,
    data: Path,
) -> None:
    """Run the detectors of FILE over readings that ClickHouse holds: what would they have raised, what do they cost?

    The stage's own code judges the readings in order of their time, as if each had come when it was measured, with the
    registry as it is now and a tick a minute. Nothing is written. Example: millrace backtest detectors.yaml --since 7d
    """
    found = inband.read(file, check)
    servers = settings(Servers, data)
    test = Backtest(found, Registry(servers).devices())
    wanted = Wanted(
        history.OLDEST_MS if since is None else int(since.timestamp() * 1000),
        history.NEWEST_MS if until is None else int(until.timestamp() * 1000),
        devices,
        metrics,
    )
    db = ClickHouse(servers)
    try:
        for from_ms, to_ms in history.chunks(db, wanted):
            inside = Wanted(max(from_ms, wanted.from_ms), min(to_ms, wanted.to_ms), devices, metrics)
            test.take(history.read(db, inside))
        run = test.end(min(history.newest_ms(db, wanted), int(time.time() * 1000)))
    finally:
        db.close()
    if not run.readings:
        raise MillraceError("ClickHouse holds no such readings: check --since, --until, --device and --metric")
    if as_json:
        click.echo(orjson.dumps(run.plain(), option=orjson.OPT_UTC_Z).decode())
    else:
        show(run, examples)


def show(run: Run, examples: int) -> None:
    """For people."""
    plain = run.plain()
    days = f"{_moment(run.from_ms):%Y-%m-%d %H:%M} to {_moment(run.to_ms):%Y-%m-%d %H:%M}, {run.days:.1f} days"
    click.echo(f"{run.readings:,} readings of {run.series:,} series, {run.devices:,} devices: {days}")
    click.echo(f"cost: {plain['us_a_reading']} us CPU a reading, {plain['bytes_a_series']} bytes a series")
    for reason, count in run.refused.items():
        click.echo(f"refused: {count:,} ({reason})")
    rows = list(run.incidents.values())
    click.echo(f"incidents: {len(rows):,}, {plain['incidents_a_day']} a day")
    console = Console(width=None if click.get_text_stream("stdout").isatty() else 200)
    console.print(_by_detector(run, rows))
    if rows:
        console.print(_by_device(rows))
    worst = sorted(rows, key=lambda row: (-SEVERITIES.index(row["severity"]), -row["peak_score"], row["opened_at"]))
    for row in worst[:examples]:
        lasted = "" if row["state"] != IncidentState.CLOSED else f" to {row['last_at']:%H:%M}"
        where = " ".join(filter(None, (row["device"], row["metric"])))
        when = f"{row['opened_at']:%Y-%m-%d %H:%M}{lasted}"
        click.echo(f"  {when}  {row['severity']:8} {row['detector']:10} {where}: {row['explanation']}")


def _by_detector(run: Run, rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("detector", "points", "incidents", "a day", "devices", *SEVERITIES):
        table.add_column(name, justify="left" if name == "detector" else "right")
    for detector in sorted({*run.points, *(row["detector"] for row in rows)}):
        own = [row for row in rows if row["detector"] == detector]
        severities = Counter(row["severity"] for row in own)
        numbers = (run.points[detector], len(own), f"{len(own) / run.days:.2f}", len({row["device"] for row in own}))
        table.add_row(detector, *map(str, numbers), *(str(severities[name]) for name in SEVERITIES))
    return table


def _by_device(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("most incidents")
    table.add_column("", justify="right")
    for device, count in Counter(row["device"] or "all devices" for row in rows).most_common(5):
        table.add_row(device, str(count))
    return table


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
