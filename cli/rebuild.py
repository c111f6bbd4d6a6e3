"""The command. The order of its steps is what keeps rows from being lost or doubled while the sink goes on writing.

Until the swap the sink writes into the old table alone, and what was read of the log ends where its ledger ends: all
later rows are in none but the old one. The swap is atomic. After it the sink writes into the new table, but an insert
that began before may still end in the old: so rows that the new one lacks are copied at once, and again when the
ledger, whose rows follow those of the table, is past everything that could have been under way.
"""

from pathlib import Path

import click

from cli.context import Servers, changes, data_option, settings
from operations.rebuild.records import log_of
from operations.rebuild.work import Rebuild
from runtime.errors import RefusedError
from runtime.kafka import topics
from sinks.adapters.places import refuse_cluster
from sinks.core.logs import LOGS

TABLES = [table for log in LOGS.values() for table in log.tables]


@click.command()
@click.argument("table", type=click.Choice(TABLES))
@click.option("--again", is_flag=True, help="Drop what an earlier rebuild left.")
@click.option("--drop", is_flag=True, help="Drop the replaced table at the end; it is TABLE_before otherwise.")
@data_option
@changes
def rebuild(table: str, again: bool, drop: bool, data: Path) -> None:
    """Make TABLE anew from what Kafka holds of its topic, and put it in the place of the old one. The flow goes on.

    Rows whose records retention took are copied from the old table. Example: millrace rebuild readings
    """
    servers, log = settings(Servers, data), log_of(table)
    assert log is not None
    work = Rebuild(servers, servers, table, log, topics.facts(servers, log.topic)[log.topic])
    try:
        refuse_cluster(work.db, "millrace rebuild swaps tables of one server")
        _rebuild(work, again)
        if drop:
            work.drop(work.aside)
        else:
            click.echo(
                f'the old table is {work.aside}; `millrace sql --owner "DROP TABLE {work.aside}"` when it is not needed'
            )
    finally:
        work.close()


def _rebuild(work: Rebuild, again: bool) -> None:
    left = work.left_over()
    if left and not again:
        raise RefusedError(f"{', '.join(left)}: left by a rebuild before; --again drops it")
    for name in left:
        work.drop(name)
    work.begin()
    click.echo(f"{work.table}: {work.copy_older():,} rows copied, whose records Kafka holds no more")
    click.echo(f"{work.table}: {work.follow():,} rows made of {work.log.topic}")
    work.swap()
    work.copy_newer()
    work.wait_for_the_sink()
    work.copy_newer()
    rows = work.db.rows(f"SELECT count() FROM {work.table}")[0][0]
    click.echo(f"{work.table}: {rows:,} rows; rebuilt")
