"""What a bridge holds: the open group, the groups in flight, and when it has had enough. No I/O, no clock."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from bridge.core import columns
from bridge.core.routes import Route, Routes
from bridge.core.rows import OVERHEAD_BYTES

SHED: Final = 0.8
"""Share of the budget above which QoS 0 may be dropped: the last fifth is kept for what is promised."""
RESUME: Final = 0.6
"""Share of the budget below which reading goes on after a pause: apart from the pause, so that it does not flutter."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of an Intake. `group_rows` and `group_bytes` close a group; `budget_bytes` is all that may be held."""

    group_rows: int = 4000
    group_bytes: int = 4 << 20
    record_bytes: int = 900_000
    payload_bytes: int = 1_500_000
    budget_bytes: int = 64 << 20


@dataclass(slots=True, eq=False)
class Group:
    """Rows that were received together and are acknowledged together."""

    rows: int = 0
    """Of messages."""
    platform: int = 0
    """Rows of the platform's own, which nobody waits for."""
    held_bytes: int = 0
    pending: int = 0
    """Records that Kafka has not acknowledged yet."""
    closed_at_s: float = 0.0
    done: list[Callable[[], None]] = field(default_factory=list)


class Intake:
    """Rows of `partitions` partitions in; groups out, acknowledged first in, first out."""

    def __init__(self, partitions: int, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.rows: list[list[Any]] = [[] for _ in range(partitions)]
        self.routes = Routes(self.rows)
        self.open = Group()
        self.closed: deque[Group] = deque()
        self.held_bytes = 0
        self.paused = False

    def route(self, topic: bytes) -> Route:
        """Where a row of this topic goes: `(extend, device)`. Needs the row in the form of bridge.core.rows."""
        return self.routes.cache.get(topic) or self.routes.route(topic)

    @property
    def shedding(self) -> bool:
        """Whether messages that were promised nothing (QoS 0) are to be dropped."""
        return self.held_bytes > self.limits.budget_bytes * SHED

    def add(self, rows: int, size_bytes: int, platform: int = 0) -> bool:
        """Account for rows that were put, of messages and of the platform's own. True when the open group is full and
        has to be closed."""
        cost = size_bytes + OVERHEAD_BYTES * (rows + platform)
        group = self.open
        group.rows += rows
        group.platform += platform
        group.held_bytes += cost
        self.held_bytes += cost
        if self.held_bytes > self.limits.budget_bytes:
            self.paused = True
        return group.rows + group.platform >= self.limits.group_rows or group.held_bytes >= self.limits.group_bytes

    def close(self, now_s: float) -> tuple[Group, list[columns.Record]]:
        """Close the open group and build its records. The caller counts `group.pending` down as Kafka answers."""
        group, self.open = self.open, Group()
        records = columns.records(self.rows, self.limits.record_bytes, self.limits.payload_bytes)
        for rows in self.rows:
            rows.clear()
        group.pending = len(records)
        group.closed_at_s = now_s
        self.closed.append(group)
        return group, records

    def acknowledged(self) -> Iterator[Group]:
        """Groups that Kafka holds, in order of receipt; each is forgotten, and the budget with it."""
        while self.closed and not self.closed[0].pending:
            group = self.closed.popleft()
            self.held_bytes -= group.held_bytes
            yield group
        if self.paused and self.held_bytes < self.limits.budget_bytes * RESUME:
            self.paused = False
