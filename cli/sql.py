"""`millrace sql`: ask ClickHouse."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from cli.context import data_option, settings
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings

_MOST_ROWS = 1_000
"""More are not shown as a table; --format shows all."""


@click.command()
@click.argument("query")
@click.option("--format", "form", metavar="FORMAT", help="Any format of ClickHouse: CSV, JSONEachRow, Parquet, …")
@data_option
def sql(query: str, form: str | None, data: Path) -> None:
    """Run QUERY and print the answer as a table, or in a format of ClickHouse's.

    Example: millrace sql "SELECT device, avg(value) FROM readings WHERE metric = 'temperature' GROUP BY device"
    """
    db = ClickHouse(settings(ClickHouseSettings, data))
    try:
        if form:
            sys.stdout.buffer.write(db.raw(query, form))
            sys.stdout.flush()
            return
        _show(*db.table(query))
    finally:
        db.close()


def _show(names: Sequence[str], rows: list[tuple[object, ...]]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    numeric = [bool(rows) and isinstance(rows[0][i], (int, float)) for i in range(len(names))]
    for name, right in zip(names, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows[:_MOST_ROWS]:
        table.add_row(*(_text(value) for value in row))
    console = Console(soft_wrap=not sys.stdout.isatty())
    console.print(table)
    if len(rows) > _MOST_ROWS:
        click.echo(f"… {len(rows) - _MOST_ROWS} more rows; --format CSV shows all", err=True)


def _text(value: object) -> str:
    if value is None:
        return "NULL"
    if hasattr(value, "isoformat"):
        return str(value.isoformat(" ", "milliseconds")) if hasattr(value, "hour") else str(value.isoformat())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
