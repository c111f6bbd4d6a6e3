"""What the platform tells of itself: DATA/run/status.json; and who has the data folder: DATA/run/lock."""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import orjson

from local.states import Service
from local.supervisor import Spec
from runtime.errors import MillraceError


class RunsAlreadyError(MillraceError):
    """Another `millrace up` has this data folder."""


def describe(services: Sequence[Service], specs: Sequence[Spec], endpoints: Mapping[str, str | None]) -> dict[str, Any]:
    """The status as `millrace status --json` prints it, without the ledger."""
    extra = {spec.name: spec.extra for spec in specs}
    return {
        "ready": all(service.is_well for service in services),
        "supervisor": os.getpid(),
        "services": [
            {"name": s.name, "pid": s.pid, "state": str(s.state), "restarts": s.restarts}
            | ({"why": s.why} if s.why else {})
            | dict(extra.get(s.name, {}))
            for s in services
        ],
        "endpoints": dict(endpoints),
    }


def targets(specs: Sequence[Spec]) -> bytes:
    """Where each service shows its metrics, as Prometheus' `file_sd_configs` read it: DATA/run/targets.json."""
    found = [(spec.name, urlsplit(spec.extra["metrics"]).netloc) for spec in specs if "metrics" in spec.extra]
    listed = [{"targets": [where], "labels": {"service": name}} for name, where in found]
    return orjson.dumps(listed, option=orjson.OPT_INDENT_2)


def write(run: Path, name: str, data: bytes) -> None:
    """Replace a file as a whole: who reads it sees the old or the new one."""
    temporary = run / f".{name}.new"
    temporary.write_bytes(data)
    temporary.replace(run / name)


def read(data: Path) -> dict[str, Any] | None:
    """The status of the platform on `data`; None when none has ever run there.

    When its supervisor is gone, every service is `stopped`: none outlives it.
    """
    file = data / "run" / "status.json"
    if not file.exists():
        return None
    found: dict[str, Any] = orjson.loads(file.read_bytes())
    if is_running(data):
        return found
    stopped = [
        {"name": s["name"], "pid": None, "state": "stopped", "restarts": s["restarts"]} for s in found["services"]
    ]
    return found | {"ready": False, "supervisor": None, "services": stopped}


@contextmanager
def lock(data: Path) -> Iterator[None]:
    """Hold the data folder. Raises RunsAlreadyError when another process does."""
    run = data / "run"
    run.mkdir(parents=True, exist_ok=True)
    with (run / "lock").open("a+") as file:
        if not _take(file):
            raise RunsAlreadyError(
                f"the platform on {data} runs already (pid {pid_of(data)}): `millrace status --data {data}` shows it,"
                f" `millrace down --data {data}` ends it"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _take(file: IO[str], patience_s: float = 0.5) -> bool:
    """Lock it; somebody who asks `is_running` holds it for a moment, too."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        else:
            return True


def pid_of(data: Path) -> int | None:
    """The supervisor that holds the data folder."""
    text = (data / "run" / "lock").read_text()
    return int(text) if text.isdecimal() else None


def is_running(data: Path) -> bool:
    file = data / "run" / "lock"
    if not file.exists():
        return False
    with file.open() as held:
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
