"""`millrace scale`: how many of each service run on this machine."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from cli.context import local_option
from local import scale as counts
from local import status as status_file
from runtime.errors import MillraceError, RefusedError

CHANGE_S: Final = 120.0


class ScaleError(MillraceError):
    """The services did not become as many as wanted; the message says which are in which state."""


@click.command()
@click.argument("wanted", nargs=-1, required=True, metavar="SERVICE=COUNT…")
@local_option
def scale(wanted: tuple[str, ...], data: Path) -> None:
    """Set the number of workers of services until the platform stops; 0 drains and stops a service.

    Example: millrace scale access=3 sink=2
    """
    change(data, _parsed(wanted))
    click.echo("  ".join(wanted))


def change(data: Path, wanted: Mapping[str, int], limit_s: float = CHANGE_S) -> None:
    """Want so many, and wait until it is so. Raises RefusedError, ScaleError."""
    if not status_file.is_running(data):
        raise RefusedError(f"nothing runs on {data}: `millrace up --data {data} --detach` starts it")
    counts.ask(data / "run", wanted)
    deadline = time.monotonic() + limit_s
    while not counts.matches(found := status_file.read(data) or {"services": []}, wanted):
        kinds = {one for name in wanted for one in counts.of_kind(name, [s["name"] for s in found["services"]])}
        states = {s["name"]: f"{s['state']} {s.get('why', '')}".strip() for s in found["services"]}
        failed = any(wanted.values()) and any(states[name].startswith("failed") for name in kinds)
        if failed or time.monotonic() > deadline:
            listed = ", ".join(f"{name} {states[name]}" for name in sorted(kinds))
            raise ScaleError(f"wanted {dict(wanted)}, found {listed}: see {data / 'logs'}")
        time.sleep(0.05)


def _parsed(wanted: tuple[str, ...]) -> dict[str, int]:
    pairs = [word.partition("=") for word in wanted]
    wrong = [f"{name}{sign}{count}" for name, sign, count in pairs if not count.isdecimal()]
    if wrong:
        raise RefusedError(f"expected SERVICE=COUNT, as in access=3; got {', '.join(wrong)}")
    return {name: int(count) for name, _, count in pairs}
