"""The states of a supervised service: a transition table and the rule of restarts. Pure: time is a value.

waiting ──start──▶ starting ──ready──▶ running ◀──ready/unready──▶ unready
   ▲                  │ ended             │ ended                    │ ended
   │                  ▼                   ▼                          ▼
   └──(due)────── restarting ◀────────────┴──────────────────────────┘
failed: it asked to stay down (exit 64 or 78); done: a one-shot that ended well; stopping, stopped: on request
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from runtime.errors import EXIT_REFUSED, EXIT_SETTINGS
from runtime.retry import RetryPolicy

FIRST_RETRY_S: Final = 0.1
LONGEST_RETRY_S: Final = 15.0
_RETRY: Final = RetryPolicy(first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S)
STEADY_S: Final = 30.0
"""After so long without an end, an end is a first one again."""

STAY_DOWN: Final = {
    EXIT_SETTINGS: "its settings are wrong",
    EXIT_REFUSED: "it needs a decision",
}
"""Exit codes after which a restart would meet the same."""


class State(StrEnum):
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    UNREADY = "unready"
    RESTARTING = "restarting"
    FAILED = "failed"
    DONE = "done"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Event(StrEnum):
    START = "start"
    READY = "ready"
    UNREADY = "unready"
    ENDED = "ended"
    STOP = "stop"
    REFUSED = "refused"
    DELAYED = "delayed"
    RELEASE = "release"


ALIVE: Final = frozenset((State.STARTING, State.RUNNING, State.UNREADY, State.STOPPING))
"""States in which there is a process."""

MOVES: Final[dict[tuple[State, Event], State]] = {
    (State.WAITING, Event.START): State.STARTING,
    (State.RESTARTING, Event.START): State.STARTING,
    (State.STARTING, Event.READY): State.RUNNING,
    (State.UNREADY, Event.READY): State.RUNNING,
    (State.RUNNING, Event.UNREADY): State.UNREADY,
    (State.STARTING, Event.ENDED): State.RESTARTING,
    (State.RUNNING, Event.ENDED): State.RESTARTING,
    (State.UNREADY, Event.ENDED): State.RESTARTING,
    (State.WAITING, Event.DELAYED): State.RESTARTING,
    (State.RESTARTING, Event.DELAYED): State.RESTARTING,
    (State.WAITING, Event.REFUSED): State.FAILED,
    (State.RESTARTING, Event.REFUSED): State.FAILED,
    (State.STARTING, Event.REFUSED): State.FAILED,
    (State.RUNNING, Event.REFUSED): State.FAILED,
    (State.UNREADY, Event.REFUSED): State.FAILED,
    (State.STARTING, Event.STOP): State.STOPPING,
    (State.RUNNING, Event.STOP): State.STOPPING,
    (State.UNREADY, Event.STOP): State.STOPPING,
    (State.WAITING, Event.STOP): State.STOPPED,
    (State.RESTARTING, Event.STOP): State.STOPPED,
    (State.STOPPING, Event.ENDED): State.STOPPED,
    (State.STOPPED, Event.RELEASE): State.WAITING,
}
"""Every move there is; READY and UNREADY where they change nothing are no moves."""


class IllegalMove(Exception):
    pass


@dataclass(frozen=True, slots=True)
class Service:
    """What is known of one service. Times are seconds of a monotonic clock."""

    name: str
    one_shot: bool = False
    state: State = State.WAITING
    pid: int | None = None
    restarts: int = 0
    failures: int = 0
    """Ends in a row, none of them after a steady time."""
    since_s: float = 0.0
    retry_at_s: float = 0.0
    why: str | None = None
    """What went wrong last, while it still matters."""

    def start(self, pid: int, now_s: float) -> "Service":
        again = self.state is State.RESTARTING
        return replace(
            self._move(Event.START),
            pid=pid,
            since_s=now_s,
            restarts=self.restarts + again,
            why=self.why if again else None,
        )

    def probed(self, ready: bool) -> "Service":
        """What its readiness is now."""
        event = Event.READY if ready else Event.UNREADY
        if (self.state, event) not in MOVES:
            return self
        return replace(self._move(event), why=None if ready else "not ready")

    def ended(self, code: int, now_s: float) -> "Service":
        """Its process ended with this exit code (negative: by that signal)."""
        if self.one_shot and code == 0 and self.state is not State.STOPPING:
            return replace(self, state=State.DONE, pid=None, why=None)
        why = _reason(code)
        if self.state is State.STOPPING:
            return replace(self._move(Event.ENDED), pid=None)
        if code in STAY_DOWN:
            return replace(self._move(Event.REFUSED), pid=None, why=why)
        failures = 1 if now_s - self.since_s >= STEADY_S else self.failures + 1
        return replace(
            self._move(Event.ENDED), pid=None, failures=failures, retry_at_s=now_s + delay_s(failures), why=why
        )

    def refused(self, why: str) -> "Service":
        """It cannot even be started."""
        return replace(self._move(Event.REFUSED), pid=None, why=why)

    def delayed(self, why: str, now_s: float) -> "Service":
        """It cannot be started now: the machine lacks room, memory or processes. It is retried."""
        failures = self.failures + 1
        return replace(self._move(Event.DELAYED), failures=failures, retry_at_s=now_s + delay_s(failures), why=why)

    def stop(self) -> "Service":
        return self if (self.state, Event.STOP) not in MOVES else replace(self._move(Event.STOP), why=None)

    def hold(self, why: str | None = None) -> "Service":
        """Stop it, and have it start no more until `release`; so also what failed or is done, to be run again."""
        over = self.state in (State.FAILED, State.DONE)
        return replace(self, state=State.STOPPED, why=why) if over else replace(self.stop(), why=why)

    def release(self) -> "Service":
        return replace(self._move(Event.RELEASE), why=None) if self.state is State.STOPPED else self

    def is_due(self, now_s: float) -> bool:
        """Whether it is to be started now, once what it needs is there."""
        return self.state is State.WAITING or (self.state is State.RESTARTING and now_s >= self.retry_at_s)

    @property
    def has_been_ready(self) -> bool:
        """Others that start after this one may start: a restart later on does not hold them up."""
        return self.state in (State.RUNNING, State.UNREADY, State.DONE)

    @property
    def is_well(self) -> bool:
        return self.state in (State.RUNNING, State.DONE)

    def _move(self, event: Event) -> "Service":
        try:
            return replace(self, state=MOVES[self.state, event])
        except KeyError:
            raise IllegalMove(f"{self.name}: no {event} while {self.state}") from None


def delay_s(failures: int) -> float:
    """Wait before the restart after so many ends in a row: doubled each time, bounded."""
    return _RETRY.limit_s(failures)


def _reason(code: int) -> str:
    if code < 0:
        return f"ended by signal {-code}"
    return f"exit code {code}" + (f": {STAY_DOWN[code]}, see its log" if code in STAY_DOWN else "")
