"""`millrace restart`: Millrace's services on new code, one group after the other, while the platform runs."""

import os
import signal
import time
from pathlib import Path
from typing import Any, Final

import click

from cli.context import data_option
from local import status as told
from runtime.errors import MillraceError

ORDER: Final = ("sink", "presence", "anomaly", "aggregate", "access", "relay", "bridge-http", "bridge", "watch")
"""Readers before writers: a record of a new form finds readers that know it."""
READY_S: Final = 120.0
_LOOK_S: Final = 0.1


class RestartError(MillraceError):
    """A service did not come back."""


@click.command()
@click.argument("names", nargs=-1, metavar="[SERVICE]…")
@data_option
def restart(names: tuple[str, ...], data: Path) -> None:
    """End services and start them again as they are installed now: each drains, and the next waits until it is ready.

    Without a SERVICE all of Millrace's own are, in the order of an upgrade; engines go on. Nothing is lost meanwhile.

    Example: git pull && make setup && millrace restart
    """
    wrong = [name for name in names if name not in ORDER]
    if wrong:
        raise click.BadParameter(f"{', '.join(wrong)}: expected some of {', '.join(ORDER)}", param_hint="SERVICE")
    if not told.is_running(data):
        raise RestartError(f"nothing runs on {data}: `millrace up` starts it")
    for name in (name for name in ORDER if name in names or not names):
        begin = time.monotonic()
        _restart(data, name)
        click.echo(f"{name:12} ready after {time.monotonic() - begin:.1f} s")


def _restart(data: Path, name: str) -> None:
    before = _service(data, name)
    if before["pid"] is not None:
        os.kill(before["pid"], signal.SIGTERM)
    deadline = time.monotonic() + READY_S
    while (now := _service(data, name))["state"] != "running" or now["pid"] == before["pid"]:
        if now["state"] == "failed" or time.monotonic() > deadline:
            raise RestartError(f"{name} is {now['state']}, not ready again: see {data / 'logs' / name}.log")
        time.sleep(_LOOK_S)


def _service(data: Path, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = (told.read(data) or {"services": []})["services"]
    return next(service for service in found if service["name"] == name)
