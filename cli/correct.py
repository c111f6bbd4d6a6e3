"""`millrace correct`: readings that an older decoder got wrong, decoded again from telemetry.raw."""

from datetime import datetime
from pathlib import Path

import click

from cli.context import Servers, announce, data_option, settings
from cli.times import Moment
from operations import correct as operation


@click.command()
@click.option(
    "--from", "since", type=Moment(), required=True, help="Received by Kafka at or after: ISO 8601, or 2d ago."
)
@click.option("--to", "until", type=Moment(), required=True, help="And before.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@data_option
def correct(since: datetime, until: datetime, dry_run: bool, data: Path) -> None:
    """Decode the accepted messages of a time again from telemetry.raw, with the decoder and the rules of this version,
    and replace the readings that differ. The old ones go to readings_superseded.

    Example: millrace correct --from 2026-11-24T00:00Z --to 2026-11-25T00:00Z --dry-run
    """
    if not dry_run:
        announce(data)
    servers = settings(Servers, data)
    done = operation.correct(servers, servers, since, until, dry_run=dry_run)
    if done.interrupted is not None:
        click.echo(_interrupted(done.interrupted, dry_run))
    if done.found is None:
        click.echo("nothing was received in that time")
        return
    for line in _lines(done.found):
        click.echo(line)
    if done.corrected is not None:
        click.echo(f"corrected: {done.corrected.readings:,} readings of {done.corrected.messages:,} messages")


def _interrupted(found: operation.Interrupted, dry_run: bool) -> str:
    name = f"the correction of {found.correction.correction}, which broke off"
    if dry_run:
        return f"{name}, is not touched by --dry-run; `millrace correct` without it will have it {found.then} first"
    return f"{found.then}: {name}"


def _lines(found: operation.Comparison) -> list[str]:
    lines = [
        f"the same: {found.same:,} messages",
        f"different: {found.changed:,} messages with {found.readings:,} readings",
    ]
    if found.recounted:
        lines.append(f"left as they are: {found.recounted:,} messages would have another number of readings")
    if found.refused:
        lines.append(f"left as they are: {found.refused:,} messages would be refused today")
    return lines
