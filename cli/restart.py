"""`millrace restart`: Millrace's services on new code, one group after the other, while the platform runs."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from cli.context import local_option
from cli.scale import change
from local import scale as counts
from local import status as status_file
from local.services import name_of
from local.states import State
from runtime.errors import MillraceError
from schemas.topics import STAGES

ORDER: Final = ("sink", *reversed(STAGES), "relay", "bridge-http", "bridge", "watch")
"""Readers before writers: a record of a new form finds readers that know it."""
STEADY_S: Final = 3.0
"""A service is ready when it has loaded what it needs; the first record that it cannot read ends it after that."""
_LOOK_S: Final = 0.1
Processes = Mapping[str, tuple[int | None, int]]
"""The pid and the number of restarts of each worker."""


class RestartError(MillraceError):
    """Nothing can be restarted here, or a service ended again after its start."""


@click.command()
@click.argument("names", nargs=-1, metavar="[SERVICE]…")
@local_option
def restart(names: tuple[str, ...], data: Path) -> None:
    """Restart services with the code that is installed now. Each drains first, and the next waits until it is ready and
    has stayed up for some seconds.

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
        ready_s = time.monotonic() - begin
        watch(data, [name_of(name, number) for number in range(1, count + 1)])
        click.echo(f"{name:12} ready after {ready_s:.1f} s")


def watch(data: Path, workers: list[str], steady_s: float = STEADY_S) -> None:
    """Return when these workers have run for `steady_s` as the same processes. Raises RestartError when one ended."""
    begin, first = time.monotonic(), processes(_services(data), workers)
    while time.monotonic() - begin < steady_s:
        found = _services(data)
        ended = [name for name, process in processes(found, workers).items() if process != first[name]]
        ended += [s["name"] for s in found if s["name"] in workers and s["state"] == State.FAILED]
        if ended:
            name = ended[0]
            why = next((s.get("why") or s["state"] for s in found if s["name"] == name), State.STOPPED)
            raise RestartError(
                f"{name} was ready and ended within {steady_s:g} s: {why}. {data / 'logs' / f'{name}.log'} has the"
                f" reason; then `millrace restart {name.rstrip('-0123456789')}`. Later services"
                " were not restarted"
            )
        time.sleep(_LOOK_S)


def processes(services: list[dict[str, Any]], workers: list[str]) -> Processes:
    """Of these workers. One that is not there has no pid."""
    there = {s["name"]: (s["pid"], s["restarts"]) for s in services}
    return {name: there.get(name, (None, 0)) for name in workers}


def _services(data: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (status_file.read(data) or {"services": []})["services"]
    return found
