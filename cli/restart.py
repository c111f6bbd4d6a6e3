"""`millrace restart`: Millrace's services on new code, one group after the other, while the platform runs."""

import time
from pathlib import Path
from typing import Final

import click

from cli.context import local_option
from cli.scale import change
from local import scale as counts
from local import status as status_file
from runtime.errors import MillraceError

ORDER: Final = ("sink", "presence", "anomaly", "aggregate", "access", "relay", "bridge-http", "bridge", "watch")
"""Readers before writers: a record of a new form finds readers that know it."""


class RestartError(MillraceError):
    """Nothing can be restarted here."""


@click.command()
@click.argument("names", nargs=-1, metavar="[SERVICE]…")
@local_option
def restart(names: tuple[str, ...], data: Path) -> None:
    """End services and start them again as they are installed now: each drains, and the next waits until it is ready.

    Without a SERVICE all of Millrace's own are, in the order of an upgrade; engines go on. Nothing is lost meanwhile.

    Example: git pull && make setup && millrace restart
    """
    wrong = [name for name in names if name not in ORDER]
    if wrong:
        raise click.BadParameter(f"{', '.join(wrong)}: expected some of {', '.join(ORDER)}", param_hint="SERVICE")
    if not status_file.is_running(data):
        raise RestartError(f"nothing runs on {data}: `millrace up` starts it")
    wanted = counts.read(data / "run")
    for name in (name for name in ORDER if name in names or not names):
        count = wanted.get(name, 1)
        if count == 0:
            click.echo(f"{name:12} left stopped: `millrace scale {name}=1` starts it")
            continue
        begin = time.monotonic()
        change(data, {name: 0})  # all workers of a service end before one starts: two versions never run side by side
        change(data, {name: count})
        click.echo(f"{name:12} ready after {time.monotonic() - begin:.1f} s")
