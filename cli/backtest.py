"""`millrace backtest`: what detector settings would have raised over readings that ClickHouse holds, and their cost."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from cli import inband
from cli.context import Servers, data_option, settings
from cli.times import Moment
from identity.registry import DeviceRegistry
from operations import backtest as operation
from operations.history import NEWEST_MS, OLDEST_MS, Wanted
from operations.incidents import SEVERITIES
from schemas.vocabulary import IncidentState
from streams.anomaly.backtest import Run
from streams.anomaly.detectors import check


def plain(run: Run) -> dict[str, Any]:
    """For JSON."""
    return {
        "from": _moment(run.from_ms),
        "to": _moment(run.to_ms),
        "readings": run.readings,
        "series": run.series,
        "devices": run.devices,
        "us_a_reading": round(run.cpu_s / max(1, run.readings) * 1e6, 3),
        "bytes_a_series": round(run.state_bytes / max(1, run.series)),
        "incidents_a_day": round(len(run.incidents) / run.days, 3),
        "points": dict(run.points),
        "refused": dict(run.refused),
        "incidents": list(run.incidents.values()),
    }


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
    wanted = Wanted(
        OLDEST_MS if since is None else int(since.timestamp() * 1000),
        NEWEST_MS if until is None else int(until.timestamp() * 1000),
        devices,
        metrics,
    )
    servers = settings(Servers, data)
    registered = DeviceRegistry(servers).devices().values()
    run = operation.backtest(servers, found, registered, wanted)
    if as_json:
        click.echo(orjson.dumps(plain(run), option=orjson.OPT_UTC_Z).decode())
    else:
        show(run, examples)


def show(run: Run, examples: int) -> None:
    """For people."""
    about = plain(run)
    days = f"{_moment(run.from_ms):%Y-%m-%d %H:%M} to {_moment(run.to_ms):%Y-%m-%d %H:%M}, {run.days:.1f} days"
    click.echo(f"{run.readings:,} readings of {run.series:,} series, {run.devices:,} devices: {days}")
    click.echo(f"cost: {about['us_a_reading']} us CPU a reading, {about['bytes_a_series']} bytes a series")
    for reason, count in run.refused.items():
        click.echo(f"refused: {count:,} ({reason})")
    rows = list(run.incidents.values())
    click.echo(f"incidents: {len(rows):,}, {about['incidents_a_day']} a day")
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
