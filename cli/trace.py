"""`millrace trace`: from what is stored back to the bytes that came, with the time at every stage."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cli.context import Servers, data_option, settings
from cli.times import Moment
from operations.records import dump
from operations.trace import FAR, follow
from runtime.clickhouse.client import ClickHouse
from schemas.topics import is_device_id


@click.command()
@click.argument("device")
@click.option("--at", type=Moment(), help="The last message at or before this time, instead of the newest.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@data_option
def trace(device: str, at: datetime | None, as_json: bool, data: Path) -> None:
    """Follow a reading of DEVICE back to the message that it came in, and show the time at every stage.

    TIME is the device's own; without readings, its newest denied or dead message is shown.
    Example: millrace trace climate-00007 --at 15m
    """
    if not is_device_id(device):
        raise click.BadParameter(f"{device!r} does not match [a-z0-9-]{{1,64}}", param_hint="DEVICE")
    servers = settings(Servers, data)
    db = ClickHouse(servers)
    try:
        found = follow(db, servers, device, at or FAR)
    finally:
        db.close()
    click.echo(dump(found).decode() if as_json else shown(found))


def shown(found: Mapping[str, Any]) -> str:
    """For people."""
    who = f"boot {found.get('boot', '-')}, seq {found.get('seq', '-')}, by {found['publisher']}"
    lines = [f"{found['fate']}  {found['name']}  ({who})"]
    if "reason" in found:
        lines.append(f"  reason               {found['reason']}")
    begun = found["times"]["received"]
    for stage, time in found["times"].items():
        lines.append(f"  {stage:20} {_clock(time)}{_since(begun, time)}")
    message = found["message"]
    if message is None:
        lines.append("  the message itself is no longer in telemetry.raw")
    else:
        payload = message.get("payload", message.get("payload_base64"))
        lines += [f"  topic                {message['topic']}", f"  payload              {payload}"]
    lines += [f"  reading              {r['device']} {r['metric']} = {r['value']}" for r in found["readings"]]
    return "\n".join(lines)


def _clock(time: datetime | None) -> str:
    return "-" if time is None else time.astimezone(UTC).isoformat(" ", "milliseconds").replace("+00:00", "Z")


def _since(begun: datetime, time: datetime | None) -> str:
    return "" if time is None else f"   {(time - begun).total_seconds() * 1000:+,.0f} ms"
