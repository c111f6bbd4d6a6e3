"""What the model needs around it: logs, tables with their bounded memory, and what stands in a record."""

import json
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from runtime.stage.snapshot import fingerprint
from schemas import headers
from schemas.headers import Provenance, ReadingsHeaders
from schemas.vocabulary import Kind
from sinks.core.records import Arrival


class Stopped(Exception):
    """A process refused to go on, with a clear line: promised behaviour, counted apart from violations."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A record in a log."""

    offset: int
    time_ms: int
    headers: list[tuple[str, bytes]]
    value: bytes

    @property
    def found(self) -> dict[str, bytes]:
        return headers.table(self.headers)

    @property
    def fingerprint(self) -> int:
        return fingerprint(self.offset, self.time_ms, None, self.value)

    def arrival(self) -> Arrival:
        return Arrival(self.offset, self.time_ms, self.headers, self.value)


class Log:
    """One partition of a topic, with a beginning that moves and an identity that can change."""

    def __init__(self, name: str) -> None:
        self.name, self.low, self.epoch = name, 0, 0
        self.records: list[Stored] = []

    @property
    def end(self) -> int:
        return self.low + len(self.records)

    @property
    def topic_id(self) -> str:
        return f"{self.name}-{self.epoch}"

    def append(self, time_ms: int, head: list[tuple[str, bytes]], value: bytes) -> Stored:
        self.records.append(Stored(self.end, time_ms, head, value))
        return self.records[-1]

    def get(self, offset: int) -> Stored:
        return self.records[offset - self.low]

    def retain(self, count: int) -> None:
        """Retention takes the oldest `count` records."""
        del self.records[:count]
        self.low += count

    def recreate(self) -> None:
        self.records, self.low, self.epoch = [], 0, self.epoch + 1


Row = tuple[Any, ...]


@dataclass
class Table:
    """A ClickHouse table: drops an insert whose token is among the last `window` ones; evaluates conditions itself."""

    window: int
    rows: list[Row] = field(default_factory=list)
    tokens: "OrderedDict[Any, None]" = field(default_factory=OrderedDict)
    inserts: int = 0

    def put(self, token: str, rows: Iterable[Row], only_new: bool) -> None:
        self.inserts += 1
        if token in self.tokens:
            return
        there = set(self.rows) if only_new else set()
        self.rows += [row for row in rows if row not in there]
        self._remember(token)

    def noise(self, number: int) -> None:
        """Another partition's insert takes a place in the window."""
        self.inserts += 1
        self._remember(("noise", number))

    def _remember(self, token: Any) -> None:
        self.tokens[token] = None
        while len(self.tokens) > self.window:
            self.tokens.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Message:
    """What a device says once; `uid` identifies a message whatever its verdict. `replay_of`: uid it replays."""

    device: str
    boot: int
    seq: int | None
    uid: int
    replay_of: str | None = None


Fate = tuple[int, str, str | None]
"""(uid, verdict, replay_of) of one message, or (uid, verdict, window) of one counted reading."""


def derived(kind: Kind, time_ms: int, fates: list[Fate], origin: Provenance) -> tuple[list[tuple[str, bytes]], bytes]:
    """Headers and value of a record of a derived topic of the model."""
    counts = headers.Counts(readings=len(fates))
    head = ReadingsHeaders(kind, time_ms, counts).encode() + origin.encode()
    return head, json.dumps(fates).encode()


def fates_of(value: bytes) -> list[Fate]:
    return [(uid, verdict, extra) for uid, verdict, extra in json.loads(value)]
