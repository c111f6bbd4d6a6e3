"""`millrace replay`: messages that were refused go through again, after a fix."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson

from cli.context import Servers, announce, data_option, settings
from cli.times import Moment
from operations.replay import COUNT, TABLES, pages, send
from runtime.clickhouse.client import ClickHouse


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
    or the decoder was mended.

    Each carries the name of the one it replays, so that a second replay of the same message is a duplicate.
    Example: millrace replay denied --since 2h --reason channel --dry-run
    """
    if not dry_run:
        announce(data)
    asked = {
        "table": TABLES[what],
        "since": since,
        "until": until or datetime.now(UTC),
        "reason": reason,
        "device": device,
    }
    servers = settings(Servers, data)
    db = ClickHouse(servers)
    try:
        counted = db.rows(COUNT, asked)
        sent = 0 if dry_run else send(servers, pages(db, asked))
    finally:
        db.close()
    report = {
        "found": {rule: count for rule, count, _ in counted},
        "left_out": sum(unknown for _, _, unknown in counted),
        "sent": sent,
    }
    click.echo(orjson.dumps(report).decode() if as_json else _told(what, report, dry_run))


def _told(what: str, report: dict[str, Any], dry_run: bool) -> str:
    lines = [f"{rule:16}{count:>12,}" for rule, count in report["found"].items()] or [f"no {what} there"]
    if report["left_out"]:
        lines.append(f"left out: {report['left_out']:,} whose boot or seq could not be read; only telemetry.raw has it")
    if not dry_run:
        lines.append(f"sent again: {report['sent']:,}")
    return "\n".join(lines)
