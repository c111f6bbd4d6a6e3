"""`millrace trace`: from what is stored back to the bytes that came, with the time at every stage."""

from datetime import UTC, datetime
from pathlib import Path

import click

from cli.context import Servers, data_option, settings
from cli.times import Moment
from operations import trace as operation
from operations.records import dump
from operations.trace import Trace


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
    servers = settings(Servers, data)
    found = operation.trace(servers, servers, device, at)
    click.echo(dump(found.plain()).decode() if as_json else shown(found))


def shown(found: Trace) -> str:
    """For people."""
    boot, seq = (("-" if value is None else value) for value in (found.boot, found.seq))
    lines = [f"{found.fate}  {found.name}  (boot {boot}, seq {seq}, by {found.publisher})"]
    if found.reason is not None:
        lines.append(f"  reason               {found.reason}")
    received = found.times["received"]
    for stage, time in found.times.items():
        lines.append(f"  {stage:20} {_clock(time)}{_since(received, time)}")
    if found.message is None:
        lines.append("  the message itself is no longer in telemetry.raw")
    else:
        payload = found.message.get("payload", found.message.get("payload_base64"))
        lines += [f"  topic                {found.message['topic']}", f"  payload              {payload}"]
    lines += [f"  reading              {r['device']} {r['metric']} = {r['value']}" for r in found.readings]
    return "\n".join(lines)


def _clock(time: datetime | None) -> str:
    return "-" if time is None else time.astimezone(UTC).isoformat(" ", "milliseconds").replace("+00:00", "Z")


def _since(received: datetime | None, time: datetime | None) -> str:
    return "" if time is None or received is None else f"   {(time - received).total_seconds() * 1000:+,.0f} ms"
