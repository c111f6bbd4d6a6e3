"""`millrace incident`: look at incidents, and say of one whether it was a false alarm."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import click
import orjson
from rich.console import Console
from rich.table import Table

from cli import inband
from cli.context import Servers, changes, data_option, settings
from cli.times import Moment
from control import decisions
from operations.incidents import SEVERITIES, incidents, points
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.errors import MillraceError
from schemas.aggregates import DEVICE
from schemas.control import Mark, mark_key

_json = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
_id = click.argument("id", metavar="ID")


@click.group()
def incident() -> None:
    """Incidents: anomalies that detectors found, from the first reading until nothing followed.

    Example: millrace incident list, then: millrace incident show ID
    """


@incident.command("list")
@click.option("--all", "closed_too", is_flag=True, help="Closed ones as well.")
@click.option("--since", type=Moment(), help="Only those with anomalies after TIME (or 15m, 2h, 7d ago).")
@click.option("--device", default="", help="Of this device, or this group.")
@click.option("--detector", default="", help="By the detector of this name.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000))
@_json
@data_option
def list_(
    closed_too: bool, since: datetime | None, device: str, detector: str, limit: int, as_json: bool, data: Path
) -> None:
    """Incidents that are open, worst first. Example: millrace incident list --all --since 24h"""
    since_ms = 0 if since is None else int(since.timestamp() * 1000)
    with ClickHouse(settings(ClickHouseSettings, data)) as db:
        found = incidents(db, "", device, detector, closed_too, since_ms, limit)
    if as_json:
        click.echo(orjson.dumps([_plain(row) for row in found], option=orjson.OPT_UTC_Z).decode())
        return
    if not found:
        click.echo("no incident" if closed_too else "no incident is open", err=True)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("incident", "severity", "opened", "state", "detector", "of", "explanation"):
        table.add_column(name, overflow="fold", no_wrap=name in ("incident", "opened", "state"))
    for row in found:
        opened = row["opened_at"].strftime("%Y-%m-%d %H:%M:%S")
        state = "open" if row["closed_at"] is None else "closed"
        severity = SEVERITIES[row["severity"]]
        table.add_row(row["incident"], severity, opened, state, row["detector"], _of(row), row["explanation"])
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@incident.command()
@_id
@_json
@data_option
def show(id: str, as_json: bool, data: Path) -> None:
    """One incident, its first strange readings, and what was said of it. Example: millrace incident show ID"""
    servers = settings(Servers, data)
    with ClickHouse(servers) as db:
        row, strange = _one(db, id), points(db, id)
    mark = decisions.mark(servers, id)
    if as_json:
        view = _plain(row) | {"mark": mark and mark.mark, "points_told": [_plain(point) for point in strange]}
        click.echo(orjson.dumps(view, option=orjson.OPT_UTC_Z).decode())
        return
    for key, value in _plain(row).items():
        if value is not None:
            click.echo(f"{key:12} {_text(value)}")
    if mark is not None:
        click.echo(f"{'mark':12} {mark.mark}")
    click.echo(f"{len(strange)} of {row['points']} strange readings:")
    for point in strange:
        click.echo(f"  {_text(point['time'])}  {point['device']} {point['metric']}: {point['explanation']}")


@incident.command()
@_id
@click.option("--false-alarm", "said", flag_value="false-alarm", help="It was nothing: raise the threshold.")
@click.option("--confirmed", "said", flag_value="confirmed", help="It was something: keep the threshold, or take back.")
@inband.wait_option
@data_option
@changes
def mark(id: str, said: Literal["false-alarm", "confirmed"] | None, wait_s: float, data: Path) -> None:
    """Mark an incident. A false alarm raises the detector's threshold for that series or group.

    It takes effect in band, within a second, and counts once. Example: millrace incident mark ID --false-alarm
    """
    if said is None:
        raise click.UsageError("specify --false-alarm or --confirmed")
    servers = settings(Servers, data)
    with ClickHouse(servers) as db:
        row = _one(db, id)
    publisher = row["publisher"] if row["scope"] == DEVICE else None
    about = (row["scope"], row["device"], row["channel"], row["metric"], row["detector"])
    found = Mark(id, said, publisher, int(time.time() * 1000), *about)
    epoch, offset = inband.publish(servers, mark_key(id), found.encode(), f"millrace incident show {id}")
    click.echo(f"mark {epoch}/{offset} published: {id} ({row['detector']}, {_of(row)}) is {said}")
    inband.wait_in_force(servers, offset + 1, wait_s)


def _one(db: ClickHouse, id: str) -> dict[str, Any]:
    found = incidents(db, id, closed_too=True)
    if not found:
        raise MillraceError(f"there is no incident {id!r}: `millrace incident list --all` names them")
    return found[0]


def _of(row: dict[str, Any]) -> str:
    name = row["device"] if row["scope"] == DEVICE else f"{row['scope']} {row['device']}".strip()
    return " ".join(filter(None, (name, row["metric"])))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Severity by name, times in UTC."""
    found = {k: v.replace(tzinfo=v.tzinfo or UTC) if isinstance(v, datetime) else v for k, v in row.items()}
    return found | ({"severity": SEVERITIES[row["severity"]]} if "severity" in row else {})


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return f"{value:.6g}" if isinstance(value, float) else str(value)
