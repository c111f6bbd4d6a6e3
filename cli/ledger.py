"""`millrace ledger`: what was received, and the verdict on it."""

import sys
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.table import Table

from cli.context import Servers, data_option, settings
from operations import ledger as operation
from runtime.clickhouse.settings import ClickHouseSettings

_DESIGN = {
    "messages": ("received", "accepted", "denied", "dead_lettered", "duplicates", "in_flight", "difference"),
    "readings": ("produced", "stored", "in_flight", "difference"),
    "windows": ("readings", "counted", "open", "texts", "refused", "in_flight", "difference"),
}


def line(totals: dict[str, dict[str, int]]) -> str:
    """The ledger as one line of JSON, without what stands beside it."""
    return orjson.dumps({s: {name: totals[s][name] for name in names} for s, names in _DESIGN.items()}).decode()


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@data_option
@click.pass_context
def ledger(context: click.Context, as_json: bool, data: Path) -> None:
    """Totals: received = accepted + denied + dead lettered + duplicates + in flight + difference.

    Readings are stored, and counted in windows: readings = counted + open + texts + refused + in flight + difference.
    Example: millrace ledger --json
    """
    context.obj = data
    if context.invoked_subcommand is not None:
        return
    totals = operation.totals(settings(ClickHouseSettings, data))
    if as_json:
        click.echo(line(totals))
    else:
        show(totals)


def show(totals: dict[str, dict[str, int]]) -> None:
    """A table for people."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    for section, numbers in totals.items():
        table.add_row(f"[bold]{section}[/bold]", "")
        for name, number in numbers.items():
            style = "red" if name == "difference" and number else ""
            table.add_row(f"  {name.replace('_', ' ')}", f"{number:,}", style=style)
    Console().print(table)


@ledger.command("verify")
@click.pass_obj
def verify_(data: Path) -> None:
    """Walk all of the ledger and count again what Kafka still holds. Exit code 1 when something is wrong.

    Example: millrace ledger verify
    """
    findings = 0
    servers = settings(Servers, data)
    for finding in operation.verify(servers, servers):
        findings += 1
        click.echo(finding)
    click.echo(
        f"{findings} findings" if findings else "the ledger is consistent: no gap, no duplicate, sums equal rows"
    )
    sys.exit(1 if findings else 0)
