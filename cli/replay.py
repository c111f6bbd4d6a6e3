"""`millrace replay`: messages that were refused go through again, after a fix."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
import orjson

from cli.context import Servers, announce, data_option, settings
from cli.times import Moment
from operations import replay as operation
from operations.replay import TABLES, Refused, ReplayResult


@click.command()
@click.argument("what", type=click.Choice(list(TABLES)))
@click.option("--since", type=Moment(), required=True, help="Received at or after: ISO 8601, or 2h, 7d ago.")
@click.option("--until", type=Moment(), help="Received before; now if not given.")
@click.option("--reason", default="", help="Only reasons that begin so: a rule such as `channel`, or more of the text.")
@click.option("--device", default="", help="Only messages of this publisher.")
@click.option("--dry-run", is_flag=True, help="Count, send nothing.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@data_option
def replay(
    what: str,
    since: datetime,
    until: datetime | None,
    reason: str,
    device: str,
    dry_run: bool,
    as_json: bool,
    data: Path,
) -> None:
    """Send messages that were denied or could not be read through the platform again, after the policy, the registry
    or the decoder was fixed.

    Each carries the name of the one it replays, so that a second replay of the same message is a duplicate.
    Example: millrace replay denied --since 2h --reason channel --dry-run
    """
    wanted = Refused(what, since, until or datetime.now(UTC), reason, device)
    if not dry_run:
        announce(data)
    servers = settings(Servers, data)
    done = operation.replay(servers, servers, wanted, dry_run=dry_run)
    click.echo(orjson.dumps(asdict(done)).decode() if as_json else _text(what, done, dry_run))


def _text(what: str, done: ReplayResult, dry_run: bool) -> str:
    lines = [f"{rule:16}{count:>12,}" for rule, count in done.found.items()] or [f"no {what} there"]
    if done.left_out:
        lines.append(
            f"left out: {done.left_out:,} whose bytes, boot or seq could not be read; only telemetry.raw has them"
        )
    if not dry_run:
        lines.append(f"sent again: {done.sent:,}")
    return "\n".join(lines)
