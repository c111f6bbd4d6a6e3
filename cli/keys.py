"""`millrace keys`: what the containers of docker-compose.yml need at the first start."""

from pathlib import Path

import click

from identity import rollover
from identity.keys import SERVER_NAMES, change_authorities, make


@click.command()
@click.option("--dir", "folder", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--name", "names", multiple=True, help="A further host name or address for the server certificates.")
@click.option(
    "--renew", "renew_days", type=click.IntRange(1, 10_000), help="Issue again what expires within so many days."
)
@click.option(
    "--authority",
    "step",
    type=click.Choice(list(rollover.STEPS)),
    help="Change the authorities: trust new ones beside the old, switch to them, end the trust in the old.",
)
def keys(folder: Path, names: tuple[str, ...], renew_days: int | None, step: str | None) -> None:
    """Create missing certificates and passwords.

    Example: millrace keys --dir /keys --name iot.example.com
    """
    if step and renew_days:
        raise click.UsageError("--authority re-issues every certificate: omit --renew")
    every = SERVER_NAMES + names
    for name in change_authorities(folder, every, step) if step else make(folder, every, renew_days):
        click.echo(f"made {name}")
