"""How many of each service are wanted: DATA/run/workers.json, `{"access": 3, "sink": 0}`, followed while it runs."""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from local import files
from local.services import SCALABLE, SERVICES, name_of
from local.states import State
from local.supervisor import Spec, Supervisor
from runtime.errors import RefusedError

FILE: Final = "workers.json"
MOST: Final = 16
"""Of one service; more than partitions would only wait."""


def check(wanted: Mapping[str, int]) -> None:
    """Raises RefusedError with every mistake."""
    known = {row.name: MOST if row.name in SCALABLE else 1 for row in SERVICES}
    wrong = [
        f"no service {name}: there are {', '.join(known)}"
        if name not in known
        else f"{name}={count}: 0 to {known[name]} may run"
        for name, count in wanted.items()
        if not 0 <= count <= known.get(name, -1)
    ]
    if wrong:
        raise RefusedError("; ".join(wrong))


def of_kind(name: str, found: Iterable[str]) -> list[str]:
    """The names of a service and of its further workers: access, access-2 …"""
    return [one for one in found if re.fullmatch(rf"{re.escape(name)}(-\d+)?", one)]


def ask(run: Path, wanted: Mapping[str, int]) -> None:
    """Want so many of these; of the others as many as before. Raises RefusedError."""
    check(wanted)
    files.replace(run / FILE, orjson.dumps(read(run) | dict(wanted)))


def read(run: Path) -> dict[str, int]:
    file = run / FILE
    found: dict[str, int] = orjson.loads(file.read_bytes()) if file.exists() else {}
    return found


def matches(found: Mapping[str, Any], wanted: Mapping[str, int]) -> bool:
    """Whether a status shows as many as wanted: the wanted ones well, none more. 0: their processes are gone."""
    states = {s["name"]: s["state"] for s in found["services"]}
    for name, count in wanted.items():
        names = [name_of(name, number) for number in range(1, count + 1)]
        if set(of_kind(name, states)) != set(names or [name]):
            return False
        good = (State.RUNNING, State.DONE) if count else (State.STOPPED,)
        if any(states[one] not in good for one in names or [name]):
            return False
    return True


class Follower:
    """Makes a supervisor follow the file in `run`; `worker` makes the nth of a service. Call at each of its looks."""

    def __init__(self, run: Path, worker: Callable[[str, int], Spec]) -> None:
        self._run, self._worker = run, worker
        self._wanted: dict[str, int] = {}
        self._seen = -1
        (run / FILE).unlink(missing_ok=True)  # a start begins with one of each

    def __call__(self, supervisor: Supervisor) -> None:
        file = self._run / FILE
        changed = file.stat().st_mtime_ns if file.exists() else -1
        if changed != self._seen:
            self._seen, self._wanted = changed, read(self._run)
        for name, count in self._wanted.items():
            self._follow(supervisor, name, count)

    def _follow(self, supervisor: Supervisor, name: str, count: int) -> None:
        for one in of_kind(name, list(supervisor.services)):
            number = int(one.removeprefix(f"{name}-")) if one != name else 1
            if number <= count:
                supervisor.release(one)
                continue
            supervisor.hold(one, time.monotonic())
            if number > 1 and supervisor.services[one].state is State.STOPPED:
                supervisor.forget(one)
        for number in range(2, count + 1):
            if name_of(name, number) not in supervisor.services:
                supervisor.add(self._worker(name, number))
