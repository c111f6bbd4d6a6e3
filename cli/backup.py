"""`millrace backup` and `millrace restore`: ClickHouse's tables and platform.control, as files and back."""

from pathlib import Path

import click

from cli.context import changes, data_option, settings
from operations import backup as operation
from operations.progress import Step

_folder = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


def _report(step: Step) -> None:
    click.echo(f"  {step}", err=True)


@click.command()
@_folder
@data_option
def backup(folder: Path, data: Path) -> None:
    """Write ClickHouse's tables and platform.control into FOLDER, which must not exist yet. The platform keeps running.

    Example: millrace backup /backups/2026-11-25
    """
    done = operation.backup(settings(operation.BackupSettings, data), folder, _report)
    click.echo(f"{done.folder}: {done.rows:,} rows of {done.tables} tables, {done.bytes:,} bytes")


@click.command()
@_folder
@click.option("--replace", is_flag=True, help="Empty the tables first. What they hold and the backup does not is lost.")
@click.option("--accept-loss", is_flag=True, help="Restore although Kafka lost records that came after the backup.")
@data_option
@changes
def restore(folder: Path, replace: bool, accept_loss: bool, data: Path) -> None:
    """Bring a backup into a platform of which only Kafka and ClickHouse run and `millrace init` has run.

    The sink then goes on where the backup ends and reads again what Kafka holds. If Kafka was lost too,
    platform.control is restored, and its topics get new epochs. If it breaks off, run the same command again.
    Example: millrace restore /backups/2026-11-25 --replace
    """
    found = settings(operation.BackupSettings, data)
    done = operation.restore(found, folder, replace=replace, accept_loss=accept_loss, report=_report)
    if done.resumed:
        click.echo("an earlier restore of this backup had broken off: it was finished", err=True)
    if done.lost:
        click.echo("lost for ClickHouse:\n" + "\n".join(f"  {line}" for line in done.lost), err=True)
    if done.epochs:
        epochs = ", ".join(f"{name} {epoch}" for name, epoch in sorted(done.epochs.items()))
        click.echo(f"platform.control: restored; epochs: {epochs}")
    click.echo(f"restored {done.rows:,} rows of {done.made_at}; start the services now")
