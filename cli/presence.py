"""`millrace presence`: which devices are online, and the rules that decide it."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from cli import stage_settings
from cli.context import data_option, settings
from operations import presence as operation
from runtime.clickhouse.settings import ClickHouseSettings
from schemas.vocabulary import Presence
from streams.presence.rules import Rules, check, decode, default


@click.group()
def presence() -> None:
    """Presence: which devices are online, since when and why. The rules: streams/presence/README.md.

    Example: millrace presence list --offline
    """


@presence.command("list")
@click.option("--offline", "state", flag_value=str(Presence.OFFLINE), help="Only devices that are offline.")
@click.option("--online", "state", flag_value=str(Presence.ONLINE), help="Only devices that are online.")
@click.option("--device", "prefix", default="", help="Only ids that begin so.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1_000_000))
@click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
@data_option
def list_(state: str | None, prefix: str, limit: int, as_json: bool, data: Path) -> None:
    """Devices, those that came or went last first. Example: millrace presence list --offline"""
    found = operation.presence(settings(ClickHouseSettings, data), state or "", prefix, limit)
    rows, totals = found.rows, found.totals
    if as_json:
        click.echo(orjson.dumps(rows, option=orjson.OPT_UTC_Z).decode())
        return
    if rows:
        _print(rows, datetime.now(UTC))
    summed = ", ".join(f"{totals.get(str(name), 0)} {name}" for name in Presence)
    click.echo(summed + (f"; the first {limit} are shown" if len(rows) == limit else ""), err=True)


def _print(rows: list[dict[str, Any]], now: datetime) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("device", "state", "since", "for", "reason", "last seen", "may be silent", "flaps", "by"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        seen, since = row["last_seen"], row["since"].replace(tzinfo=UTC)
        table.add_row(
            row["device"],
            row["state"],
            f"{since:%Y-%m-%d %H:%M:%S}",
            _long(max(0.0, (now - since).total_seconds())),
            row["reason"],
            "" if seen is None else f"{seen:%Y-%m-%d %H:%M:%S}",
            "" if row["expected_s"] is None else _long(row["expected_s"]),
            str(row["flaps"] or ""),
            "" if row["publisher"] == row["device"] else row["publisher"],
        )
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _long(seconds: float) -> str:
    """A duration for people, to two digits or so."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _summary(found: Rules) -> str:
    return (
        f"silent after {found.factor:g} times the usual gap, held after {found.changes} changes within "
        f"{_long(found.within_ms / 1000)}"
    )


stage_settings.add(presence, "presence", "presence", check, decode, default, _summary)
