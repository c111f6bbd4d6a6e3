"""Worker processes without the second of imports each: a process that has imported the toy forks them on demand.

Asked by lines on standard input, `{"argv": […], "environment": {…}, "log": path}`; it answers `{"born": pid}` and, when
a child has ended, `{"dead": pid, "code": exit code}`. When its input ends it kills what is left.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.stage import toy


def _child(order: dict[str, Any]) -> None:
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.update(order["environment"])
    code = 0
    try:
        toy.run(order["argv"])
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else 1
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        code = 1
    sys.stderr.flush()
    os._exit(code)


def _say(**what: int) -> None:
    print(json.dumps(what), flush=True)


def _bear(line: str) -> int:
    pid = os.fork()
    if pid == 0:
        _child(json.loads(line))
    _say(born=pid)
    return pid


def _bury(children: set[int]) -> None:
    for pid in list(children):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            children.remove(pid)
            _say(dead=pid, code=os.waitstatus_to_exitcode(status))


def serve() -> None:
    children: set[int] = set()
    while True:
        if select.select([sys.stdin], [], [], 0.02)[0]:
            line = sys.stdin.readline()
            if not line:
                break
            children.add(_bear(line))
        _bury(children)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


class Child:
    """A forked worker, with the words of subprocess.Popen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None
        self.ended = threading.Event()

    def poll(self) -> int | None:
        return self.code

    def wait(self, timeout_s: float) -> int:
        if not self.ended.wait(timeout_s) or self.code is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout_s} s")
        return self.code

    def send_signal(self, number: signal.Signals) -> None:
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class Nursery:
    """Starts the process and talks to it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stage.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self._children: dict[int, Child] = {}
        self._born: list[Child] = []
        self._lock = threading.Lock()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "born" in said:
                self._children[said["born"]] = child = Child(said["born"])
                self._born.append(child)
            else:
                child = self._children.pop(said["dead"])
                child.code = said["code"]
                child.ended.set()

    def start(self, argv: list[str], environment: dict[str, str], log: Path) -> Child:
        assert self._process.stdin is not None
        with self._lock:
            order = {"argv": argv, "environment": environment, "log": str(log)}
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            deadline = time.monotonic() + 30
            while not self._born:
                assert time.monotonic() < deadline, "the nursery does not answer"
                time.sleep(0.005)
            return self._born.pop()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._listener.join(10)
        self._process.stdout.close()


if __name__ == "__main__":
    serve()
