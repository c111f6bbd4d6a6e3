"""Starts a service of bridge/ as a process of its own, as operators do."""

import contextlib
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from local.ports import free
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]


def wait(done: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    wait_for(done, what, timeout_s)


class Service:
    """`python -m module` with settings; its log is kept in `folder`."""

    def __init__(self, module: str, folder: Path, **settings: object) -> None:
        self.module = module
        self.log = folder / f"{module}.log"
        (self.port,) = free()
        self.environment = {f"MILLRACE_{key.upper()}": str(value) for key, value in settings.items()} | {
            "MILLRACE_HTTP_BIND": f"127.0.0.1:{self.port}",
            "MILLRACE_LOG_FORMAT": "human",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, ready: bool = True) -> "Service":
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module], cwd=ROOT, env=os.environ | self.environment, stderr=log, stdout=log
            )
        if ready:
            wait(self.ready, f"{self.module} to be ready: {self.log.read_text()}")
        return self

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return self._get("/health/ready")[0] == 200

    def metric(self, name: str) -> float:
        """The sample of that name, labels included."""
        for line in self._get("/metrics")[1].splitlines():
            key, _, value = line.rpartition(" ")
            if key == name:
                return float(value)
        raise AssertionError(f"no metric {name}")

    def stop(self, timeout_s: float = 20.0) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait(10)

    def _get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""
