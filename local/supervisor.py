"""Starts services in order, watches them, restarts what dies, drains in reverse. One thread, a look every 50 ms."""

import errno
import logging
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from local import files
from local.programs import Process, Program, ProgramError, allow_files
from local.states import ALIVE, Service, State

log = logging.getLogger(__name__)

LOOK_S: Final = 0.05
PROBE_S: Final = 1.0
"""How often the readiness of a running service is asked."""
LOG_BYTES: Final = 16 << 20
_LOGS_S: Final = 30.0
_FOR_NOW: Final = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
)
"""What may be over at the next try: a full disk, no memory, too many processes or files."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A service to supervise. `program` writes its configuration and may raise ProgramError; called at every start.

    It starts when all services named by `after` have been ready once. `watched` False: readiness is asked only while it
    starts, because asking leaves traces there.
    """

    name: str
    program: Callable[[], Program]
    after: Sequence[str] = ()
    one_shot: bool = False
    watched: bool = True
    start_limit_s: float = 60.0
    extra: Mapping[str, str] = field(default_factory=dict)
    """Shown in the status beside pid and state."""
    before_stop: Callable[[], None] = lambda: None
    """Called when it is about to be ended."""


class Supervisor:
    """`changed` is called with all services after each change of any and must not raise; each of `at_each_look` may
    add, hold and release some. Programs inherit the open files `keep_open`."""

    def __init__(
        self,
        specs: Sequence[Spec],
        logs: Path,
        changed: Callable[[Sequence[Service]], None] = lambda _: None,
        at_each_look: Sequence[Callable[["Supervisor"], None]] = (),
        keep_open: Collection[int] = (),
    ) -> None:
        self.specs = list(specs)
        self.services = {spec.name: Service(spec.name, spec.one_shot) for spec in specs}
        self._processes: dict[str, Process] = {}
        self._probe_at: dict[str, float] = {}
        self._logs = logs
        self._changed = changed
        self._at_each_look = at_each_look
        self._keep_open = keep_open
        self._trouble: dict[str, str] = {}
        self._kill_at: dict[str, float] = {}
        self._stop = False
        self._logs_at = 0.0

    # ---- what a caller does
    def run(self) -> bool:
        """Supervise until a signal, or until the start fails; then drain. Returns whether it was asked to."""
        allow_files()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self.request_stop())
        self._changed(list(self.services.values()))
        asked = True
        while not self._stop:
            for part in self._at_each_look:
                self._survive(getattr(part, "__qualname__", type(part).__name__), partial(part, self))
            self.look(time.monotonic())
            if self._is_stuck():
                asked = False
                break
            time.sleep(LOOK_S)
        self.drain()
        return asked

    def request_stop(self) -> None:
        self._stop = True

    @property
    def is_ready(self) -> bool:
        return all(service.is_well for service in self.services.values())

    def look(self, now_s: float) -> None:
        """See who ended, who is ready, who is due."""
        for spec in self.specs:
            self._collect(spec, now_s)
            self._probe(spec, now_s)
            self._start_if_due(spec, now_s)
        if now_s >= self._logs_at:
            self._logs_at = now_s + _LOGS_S
            self._survive("logs", partial(bound_logs, self._logs))

    def drain(self) -> None:
        """End all in the reverse of the order in which they started, each within its grace."""
        for spec in reversed(self.specs):
            service = self._set(self.services[spec.name].stop())
            if service.state is State.STOPPING:
                self._survive(spec.name, spec.before_stop)
                code = self._processes[spec.name].stop()
                self._set(service.ended(code, time.monotonic()))

    def add(self, spec: Spec) -> None:
        """One more service; it starts when what it needs has been ready."""
        self.specs.append(spec)
        self._set(Service(spec.name, spec.one_shot))

    def hold(self, name: str, now_s: float, why: str | None = None) -> None:
        """Ask a service to end, and start it no more until `release`. It is killed after its grace."""
        service = self._set(self.services[name].hold(why))
        if service.state is State.STOPPING and name not in self._kill_at:
            process = self._processes[name]
            self._survive(name, next(spec.before_stop for spec in self.specs if spec.name == name))
            process.terminate()
            self._kill_at[name] = now_s + process.program.grace_s

    def release(self, name: str) -> None:
        self._set(self.services[name].release())

    def forget(self, name: str) -> None:
        """Know a stopped service no more."""
        assert self.services[name].state is State.STOPPED
        self.specs = [spec for spec in self.specs if spec.name != name]
        del self.services[name]
        self._changed(list(self.services.values()))

    # ---- one service
    def _collect(self, spec: Spec, now_s: float) -> None:
        service = self.services[spec.name]
        if service.state not in ALIVE:
            return
        if now_s >= self._kill_at.get(spec.name, now_s + 1):
            self._processes[spec.name].kill()
        code = self._processes[spec.name].exit_code()
        if code is not None:
            self._kill_at.pop(spec.name, None)
            service = self._set(service.ended(code, now_s))
            log.log(
                logging.INFO if service.state in (State.DONE, State.STOPPED) else logging.WARNING,
                "%s ended",
                spec.name,
                extra={"code": code, "state": str(service.state), "restarts": service.restarts},
            )

    def _probe(self, spec: Spec, now_s: float) -> None:
        service = self.services[spec.name]
        if service.one_shot or not self._is_to_be_probed(spec, service, now_s):
            return
        self._probe_at[spec.name] = now_s + PROBE_S
        ready = self._processes[spec.name].program.ready()
        was, service = service.state, self._set(service.probed(ready))
        if was is not State.RUNNING and ready:
            log.info("%s is ready", spec.name, extra={"pid": service.pid, "after_s": round(now_s - service.since_s, 2)})
        elif was is State.STARTING and now_s - service.since_s > spec.start_limit_s:
            log.warning("%s was not ready in time and is restarted", spec.name)
            self._processes[spec.name].kill()

    def _is_to_be_probed(self, spec: Spec, service: Service, now_s: float) -> bool:
        if service.state is State.STARTING:
            return True
        watched = spec.watched and service.state in (State.RUNNING, State.UNREADY)
        return watched and now_s >= self._probe_at.get(spec.name, 0.0)

    def _start_if_due(self, spec: Spec, now_s: float) -> None:
        service = self.services[spec.name]
        first = service.state is State.WAITING
        if not service.is_due(now_s) or (first and not all(self.services[n].has_been_ready for n in spec.after)):
            return
        try:
            process = Process(spec.program(), self._logs / f"{spec.name}.log", self._keep_open)
        except (ProgramError, OSError) as error:
            for_now = isinstance(error, OSError) and error.errno in _FOR_NOW
            self._set(service.delayed(str(error), now_s) if for_now else service.refused(str(error)))
            log.error("%s cannot be started: %s", spec.name, error)
            return
        self._processes[spec.name] = process
        self._set(service.start(process.pid, now_s))

    def _set(self, service: Service) -> Service:
        if self.services.get(service.name) != service:
            self.services[service.name] = service
            self._changed(list(self.services.values()))
        return service

    def _survive(self, what: str, act: Callable[[], None]) -> None:
        """A failed read or write of the supervisor's own ends no service: it is logged once and tried again."""
        try:
            act()
        except OSError as error:
            if self._trouble.get(what) != str(error):
                log.error("%s: %s; retrying", what, error)
            self._trouble[what] = str(error)
        else:
            self._trouble.pop(what, None)

    def _is_stuck(self) -> bool:
        """Whether a service waits for one that failed: the start cannot go on. Later failures take nobody down."""
        failed = {name for name, service in self.services.items() if service.state is State.FAILED}
        waiting = (spec for spec in self.specs if self.services[spec.name].state is State.WAITING)
        return any(failed.intersection(spec.after) for spec in waiting)


def bound_logs(folder: Path, most_bytes: int = LOG_BYTES) -> None:
    """Keep each log below `most_bytes`: it becomes NAME.log.1. Its writer appends, so it goes on at the start."""
    for file in folder.glob("*.log"):
        if file.stat().st_size > most_bytes:
            kept = file.with_suffix(".log.1")
            kept.unlink(missing_ok=True)
            with file.open("rb+") as old, files.append(kept) as copy:
                while block := old.read(1 << 20):
                    copy.write(block)
                old.truncate(0)
