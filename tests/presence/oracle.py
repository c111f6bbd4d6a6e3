"""What presence should write, worked out a device at a time with a dictionary, sharing only constants with the core."""

from dataclasses import dataclass, field
from typing import Any

from schemas.topics import is_device_id
from schemas.vocabulary import Verdict
from streams.presence.rules import Rules

Row = tuple[Any, ...]
"""(device, publisher, state, reason, since, last seen, expected s, flaps)"""
_GOES = {"disconnected": "disconnected", "event/offline": "will"}
_PERIOD, _GROWTH, _WATCHED = 20, 2, 4


@dataclass
class Entry:
    publisher: str
    heard: int | None = None
    first: int | None = None
    seen: int | None = None
    longest: int = 0
    before: int = 0
    period: int = 0
    due: int | None = None
    now: str | None = None
    written: str | None = None
    why: str = ""
    since: int | None = None
    heat: int | None = None
    held: bool = False
    kept: int = 0

    def usual(self) -> int:
        return max(self.longest, self.before)

    def watched(self) -> int:
        return 0 if self.heard is None or self.first is None else self.heard - self.first


@dataclass
class Oracle:
    rules: Rules = field(default_factory=Rules)
    devices: dict[str, Entry] = field(default_factory=dict)
    time: int = 0
    clock: int = 0

    # --- records

    def record(self, rows: list[dict[str, Any]]) -> list[Row]:
        rows = [row for row in rows if row.get("replay_of") is None]
        news = {row["device"] for row in rows if self.is_report(row)}
        for row in rows:
            self.meet(row)
        for row in rows:
            self.signs(row)
        changed: list[tuple[int, str]] = []
        for number, row in enumerate(rows):
            for device in self.present(row) - news:
                entry = self.devices[device]
                if entry.now != "online" and not self.settles(entry):
                    last = max(n for n, r in enumerate(rows) if device in self.present(r))
                    self.become(entry, "online", "telemetry", rows[last]["received_at"])
                    changed.append((last, device))
            if self.is_report(row):
                entry = self.devices[row["device"]]
                state = "online" if row["metric"] == "connected" else "offline"
                if entry.now != state:
                    self.become(entry, state, _GOES.get(row["metric"], "connected"), row["received_at"])
                    changed.append((number, row["device"]))
        where: dict[str, int] = {}
        for number, device in changed:
            where[device] = number
            entry = self.devices[device]
            entry.heat = min(
                max(entry.heat or self.time, self.time) + self.step(), self.time + self.rules.within_ms * 3 // 2
            )
            entry.kept += 1
        return self.emit(where)

    def step(self) -> int:
        return self.rules.within_ms // self.rules.changes

    def emit(self, where: dict[str, int]) -> list[Row]:
        out = []
        for device in sorted(where, key=lambda name: where[name]):
            entry = self.devices[device]
            assert entry.heat is not None
            if entry.heat - self.time > self.rules.within_ms:
                entry.held = True
            if entry.now != entry.written and not (entry.held and entry.written == "online"):
                entry.kept -= 1
                out.append(self.emitted(device))
        return out

    def emitted(self, device: str) -> Row:
        entry = self.devices[device]
        expected = self.allowed(entry) / 1000 if self.known(entry) else None
        row = (device, entry.publisher, entry.now, entry.why, entry.since, entry.seen, expected, entry.kept)
        entry.written, entry.kept, entry.due = entry.now, 0, None
        if entry.now == "online":
            self.wait(entry)
        return row

    @staticmethod
    def is_report(row: dict[str, Any]) -> bool:
        return row["verdict"] == Verdict.EVENT and row["metric"] in ("connected", *_GOES)

    def present(self, row: dict[str, Any]) -> set[str]:
        """Who is there, by this message."""
        if self.is_report(row):
            return set()
        if row["verdict"] in (Verdict.DENIED, Verdict.DEAD_LETTER):
            return {row["publisher"]} & set(self.devices)
        return {device for device in (row["device"], row["publisher"]) if device in self.devices}

    def meet(self, row: dict[str, Any]) -> None:
        for name in (row["device"], row["publisher"]):
            accepted = row["verdict"] in (Verdict.ACCEPTED, Verdict.EVENT)
            if accepted and is_device_id(name) and name not in self.devices:
                self.devices[name] = Entry(name)

    def signs(self, row: dict[str, Any]) -> None:
        device, publisher = row["device"], row["publisher"]
        accepted = row["verdict"] in (Verdict.ACCEPTED, Verdict.EVENT)
        if accepted and not self.is_report(row) and device in self.devices:
            self.devices[device].publisher = publisher if publisher in self.devices else device
        for name in self.present(row):
            self.devices[name].seen = row["received_at"]
            self.hear(self.devices[name])
        if self.is_report(row) and row["metric"] == "connected":
            self.hear(self.devices[device])

    def settles(self, entry: Entry) -> bool:
        if entry.now != "offline" or entry.why not in ("disconnected", "will"):
            return False
        return abs(self.time - (entry.since or 0)) <= self.rules.settle_ms

    @staticmethod
    def become(entry: Entry, state: str, why: str, since: int) -> None:
        entry.now, entry.why, entry.since = state, why, since

    # --- learning

    def hear(self, entry: Entry) -> None:
        if entry.heard is None or entry.first is None:
            entry.first = entry.period = entry.heard = self.clock
        gap = self.clock - entry.heard
        if gap > entry.longest:
            entry.longest = min(gap, _GROWTH * self.may(entry)) if self.known(entry) else gap
        entry.heard = self.clock

    def known(self, entry: Entry) -> bool:
        return entry.watched() >= max(_WATCHED * entry.usual(), self.rules.least_ms)

    def may(self, entry: Entry) -> int:
        return int(min(max(self.rules.factor * entry.usual(), self.rules.least_ms), self.rules.most_ms))

    def allowed(self, entry: Entry) -> int:
        return self.may(entry) if self.known(entry) else self.rules.unknown_ms

    def wait(self, entry: Entry) -> None:
        """When to look again."""
        assert entry.heard is not None and entry.first is not None
        entry.due = entry.heard + self.allowed(entry) + 1
        if not self.known(entry):
            known = entry.first + max(_WATCHED * entry.usual(), self.rules.least_ms)
            entry.due = min(entry.due, max(known, self.clock + self.rules.least_ms))

    def reset_deadlines(self) -> None:
        for entry in self.devices.values():
            if entry.due is not None:
                self.wait(entry)

    # --- time

    def tick(self, time: int) -> list[Row]:
        if time <= self.time:
            return []
        self.clock += min(time - self.time, self.rules.standstill_ms)
        self.time = time
        out = []
        for device, entry in self.devices.items():
            if entry.due is not None and entry.due <= self.clock and self.is_silent(entry):
                if entry.now == "online":
                    most = time + self.rules.within_ms * 3 // 2
                    entry.heat = min(max(entry.heat or time, time) + self.step(), most)
                else:
                    entry.kept -= 1  # its going offline was suppressed, and is written now
                times = [t for t in (entry.seen, entry.since) if t is not None]
                self.become(entry, "offline", "silence", max(times))
                out.append(self.emitted(device))
        for device, entry in self.devices.items():
            if entry.held and (entry.heat or 0) - time <= self.rules.within_ms // 2:
                entry.held = False
                if entry.now != entry.written:
                    entry.kept -= 1
                    out.append(self.emitted(device))
        return out

    def is_silent(self, entry: Entry) -> bool:
        assert entry.heard is not None
        silent = entry.heard + self.allowed(entry) < self.clock
        if self.clock - entry.period >= max(_PERIOD * entry.usual(), self.rules.least_ms):
            entry.before, entry.longest, entry.period = entry.longest, 0, self.clock
        if not silent:
            self.wait(entry)
        return silent

    # --- operators

    def remove(self, device: str) -> list[Row]:
        entry = self.devices.get(device)
        if entry is None:
            return []
        out = []
        if entry.written == "online":
            self.become(entry, "offline", "removed", self.time)
            out.append(self.emitted(device))
        del self.devices[device]
        return out
