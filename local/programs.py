"""Programs of the local platform: how one is started, known to be ready, and ended.

A program never outlives the process that started it: the kernel sends it `death_signal` when its parent dies, even by
kill -9. (The signal follows the death of the parent's *thread*: start programs from the main thread.)
"""

import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local import files
from runtime.errors import MillraceError

_PR_SET_PDEATHSIG = 1
PRIVATE_UMASK = 0o077
_libc = ctypes.CDLL(None, use_errno=True)


_MOST_FILES = 1 << 20
"""Enough for anything here; some programs walk all that they might have open."""


def allow_files(count: int = _MOST_FILES) -> None:
    """Raise this process's limit of open files, which programs started later inherit, to `count` or the most allowed:
    a connection is a file, and the usual limit of 1,024 is a small fleet."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (count if hard == resource.RLIM_INFINITY else min(count, hard), hard)
        )


class ProgramError(MillraceError):
    """A program did not start; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, in the folder `cwd`. `ready` answers within a second and raises nothing; `environment` is added to
    ours. What it writes is for its owner only, whatever the umask."""

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    grace_s: float = 30.0
    death_signal: signal.Signals = signal.SIGKILL
    cwd: Path | None = None


def _die_with(parent: int, number: int) -> Callable[[], None]:
    def in_child() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return in_child


class Process:
    """A started program. Its output goes to the end of `log`. It inherits the open files `keep_open`."""

    def __init__(self, program: Program, log: Path, keep_open: Collection[int] = ()) -> None:
        self.program = program
        self.log = log
        with files.append(log) as output:
            self.popen = subprocess.Popen(
                program.argv,
                env=os.environ | dict(program.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=program.cwd,
                umask=PRIVATE_UMASK,
                pass_fds=keep_open,
                start_new_session=True,  # Ctrl-C in the terminal must reach the supervisor only: it drains in order
                preexec_fn=_die_with(os.getpid(), program.death_signal),
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative: ended by that signal."""
        return self.popen.poll()

    def wait_ready(self, timeout_s: float) -> None:
        """Raises ProgramError when the program ends or is not ready in time (it is then killed)."""
        deadline = time.monotonic() + timeout_s
        while not self.program.ready():
            if self.exit_code() is not None:
                raise ProgramError(f"{self.program.name} ended with {self.exit_code()}:\n{tail(self.log)}")
            if time.monotonic() > deadline:
                self.kill()
                raise ProgramError(f"{self.program.name} was not ready after {timeout_s:.0f} s:\n{tail(self.log)}")
            time.sleep(0.05)

    def terminate(self) -> None:
        self.popen.terminate()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> int:
        """End it gracefully, within its grace; then kill. Returns the exit code."""
        self.terminate()
        try:
            return self.popen.wait(self.program.grace_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.popen.returncode


def launch(program: Program, log: Path, timeout_s: float = 60.0) -> Process:
    """Start a program and wait until it is ready."""
    log.parent.mkdir(parents=True, exist_ok=True)
    process = Process(program, log)
    process.wait_ready(timeout_s)
    return process


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    if not log.exists():
        return "(no log)"
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - (lines << 8)))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
