"""`millrace rebuild`: a table built again from its topic, and swapped in."""

from pathlib import Path

import click

from cli.context import Servers, changes, data_option, settings
from operations import rebuild as operation
from sinks.migrate import migrate
from sinks.settings import MigrationSettings


@click.command()
@click.argument("table", type=click.Choice(operation.TABLES))
@click.option("--again", is_flag=True, help="Drop what an earlier rebuild left.")
@click.option("--drop", is_flag=True, help="Drop the replaced table at the end; it is TABLE_before otherwise.")
@data_option
@changes
def rebuild(table: str, again: bool, drop: bool, data: Path) -> None:
    """Build TABLE again from what Kafka holds of its topic, and swap it in. The platform keeps running.

    Rows whose records Kafka no longer holds are copied from the old table. Example: millrace rebuild readings
    """
    servers = settings(Servers, data)
    migrate(settings(MigrationSettings, data), restore=True)  # a table that was dropped is created first
    done = operation.rebuild(servers, servers, table, again=again, drop=drop, report=click.echo)
    click.echo(f"{table}: {done.rows:,} rows; rebuilt")
    if done.aside:
        drop_it = f'millrace sql --owner "DROP TABLE {done.aside}"'
        click.echo(f"the old table is {done.aside}; `{drop_it}` when it is not needed")
