"""The state of the platform, DATA/run/status.json, and which process holds the data folder, DATA/run/lock."""

import fcntl
import os
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

import orjson

from local import disks, files
from local.states import Service
from local.supervisor import Spec
from runtime.errors import MillraceError

LEFT_BEHIND_S: Final = 40.0
"""How long programs of a killed `millrace up` may take to end: mosquitto saves its queue."""
_RETRY_S: Final = 1.0
_BLOCK: Final = 4096
_TORN_S: Final = 0.05


class RunsAlreadyError(MillraceError):
    """Another `millrace up` has this data folder."""


def describe(
    services: Sequence[Service],
    specs: Sequence[Spec],
    endpoints: Mapping[str, str | None],
    spaces: Iterable[disks.Space] = (),
) -> dict[str, Any]:
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
        "disks": [space.described() for space in spaces],
    }


def targets(specs: Sequence[Spec]) -> bytes:
    """Where each service shows its metrics, as Prometheus' `file_sd_configs` read it: DATA/run/targets.json."""
    found = [(spec.name, urlsplit(spec.extra["metrics"]).netloc) for spec in specs if "metrics" in spec.extra]
    listed = [{"targets": [where], "labels": {"service": name}} for name, where in found]
    return orjson.dumps(listed, option=orjson.OPT_INDENT_2)


class Publisher:
    """Writes files of `run`; what cannot be written, because the disk is full, is written as soon as it can be."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._wanted: dict[str, bytes] = {}
        self._written: dict[str, bytes] = {}
        self._next_s = 0.0

    def publish(self, name: str, data: bytes) -> None:
        """Replace a file by this content, now or, where that fails, at a later `flush`."""
        self._wanted[name] = data
        self._next_s = 0.0
        with suppress(OSError):
            self.flush(time.monotonic())

    def flush(self, now_s: float) -> None:
        """Write what has changed; at most once a second while that fails (OSError)."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + _RETRY_S
        for name, data in self._wanted.items():
            if self._written.get(name) != data:
                self._write(self._run / name, data)
                self._written[name] = data

    def _write(self, file: Path, data: bytes) -> None:
        padded = data.ljust(-(-len(data) // _BLOCK) * _BLOCK + _BLOCK)  # blocks for a longer status on a full disk
        try:
            files.replace(file, padded)
        except OSError:
            files.overwrite(file, data)


def read(data: Path) -> dict[str, Any] | None:
    """The status of the platform on `data`; None when none has ever run there.

    When its supervisor is gone, every service is `stopped`: none outlives it.
    """
    file = data / "run" / "status.json"
    if not file.exists():
        return None
    found = _parsed(file)
    found["disks"] = [_now(disk) for disk in found.get("disks", ())]
    if is_running(data):
        return found
    stopped = [
        {"name": s["name"], "pid": None, "state": "stopped", "restarts": s["restarts"]} for s in found["services"]
    ]
    return found | {"ready": False, "supervisor": None, "services": stopped}


def _parsed(file: Path) -> dict[str, Any]:
    """On a full disk the file is written in place: a reader may meet half of two statuses, once."""
    found: dict[str, Any]
    try:
        found = orjson.loads(file.read_bytes())
    except orjson.JSONDecodeError:
        time.sleep(_TORN_S)
        found = orjson.loads(file.read_bytes())
    return found


def _now(disk: dict[str, Any]) -> dict[str, Any]:
    """What the supervisor saw, with the room that there is now."""
    try:
        found = disks.space(Path(disk["path"]))
    except OSError:
        return disk
    return disk | {"free_bytes": found.free, "size_bytes": found.size}


def write_environment(run: Path, values: Mapping[str, str]) -> None:
    """Settings of clients, as lines NAME=VALUE that a shell reads, too: DATA/run/env."""
    files.replace(run / "env", "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()).encode())


def environment(data: Path) -> dict[str, str]:
    """What `write_environment` wrote; empty where no platform has ever run."""
    file = data / "run" / "env"
    return parsed_environment(file.read_text()) if file.exists() else {}


def parsed_environment(text: str) -> dict[str, str]:
    """Raises ValueError on a quotation that does not end."""
    words = (word for line in text.splitlines() for word in shlex.split(line)[:1])
    return dict(word.split("=", 1) for word in words if "=" in word)


@contextmanager
def lock(data: Path) -> Iterator[int]:
    """Hold the data folder; gives a descriptor that every program has to inherit, so that a later start waits for the
    last of them. Raises RunsAlreadyError when another process, or a program that it left behind, holds it."""
    run = data / "run"
    with files.append(run / "lock") as file, files.append(run / "programs") as programs:
        if not _take(file):
            raise RunsAlreadyError(
                f"the platform on {data} runs already (pid {pid_of(data)}): `millrace status --data {data}` shows it,"
                f" `millrace down --data {data}` ends it"
            )
        if not _take(programs, LEFT_BEHIND_S):
            raise RunsAlreadyError(
                f"programs of a platform on {data} whose `millrace up` was killed still run after"
                f" {LEFT_BEHIND_S:.0f} s: `fuser -v {run / 'programs'}` names them; end them, then start again"
            )
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield programs.fileno()


def _take(file: IO[bytes], patience_s: float = 0.5) -> bool:
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
