"""Random records for one partition, and what an oracle expects of each."""

import random
from typing import Any

from runtime.stage.contract import Record
from schemas.control import Device
from schemas.vocabulary import Verdict
from streams.presence.core.state import SETTINGS
from streams.presence.rules import check
from tests.presence.oracle import Oracle, Row
from tests.presence.support import NOW_MS, control, data, event, registered, row, tick

DEVICES = ["s-1", "s-2", "burst", "slow", "flaps", "g-1", "g-2", "stranger"]
CHILDREN = ["c-1", "c-2", "c-3"]
RULES = [
    "{}",
    "silence: {factor: 2, least: 10s, most: 1h, unknown: 2m, standstill: 3s}",
    "{flaps: {changes: 3, within: 1m}, silence: {least: 12s, unknown: 90s}, settle: 2s}",
    "{flaps: {changes: 1, within: 40s}, silence: {least: 10s, unknown: 1m}, settle: 0s}",
]


class Scenario:
    """Makes records, and gives each to the oracle as to the stage."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.oracle = Oracle()
        self.now, self.offset = NOW_MS, -1

    def record(self) -> tuple[Record, list[Row]]:
        """A record, and the rows that should come of it."""
        self.offset += 1
        roll = self.random.random()
        if roll < 0.5:
            return self.tick()
        if roll < 0.53:
            return self.rules(), []
        if roll < 0.57:
            return self.device()
        rows = [self.row() for _ in range(self.random.choice([1, 1, 2, 5, 20]))]
        return data(self.offset, rows), self.oracle.record(rows)

    def tick(self) -> tuple[Record, list[Row]]:
        r = self.random
        self.now += r.choice([1000] * 12 + [1000, 2000, 5000, 30_000, 3_600_000])
        time = self.now if r.random() < 0.95 else self.now - r.choice([0, 1000, 10**9])
        return tick(self.offset, time), self.oracle.tick(time)

    def rules(self) -> Record:
        found = check(self.random.choice(RULES), "test")
        garbage = self.random.random() < 0.3
        if not garbage:
            self.oracle.rules = found
            self.oracle.reset_deadlines()
        return control(
            self.offset,
            SETTINGS,
            self.random.choice([b"{", b"[]", b'{"flaps":7}', b"\xff"]) if garbage else found.encode(),
        )

    def device(self) -> tuple[Record, list[Row]]:
        name = self.random.choice(DEVICES + CHILDREN)
        roll = self.random.random()
        if roll < 0.1:
            return control(self.offset, f"device/{name}", self.random.choice([b"{", b'{"id":"x"}'])), []
        if roll < 0.2:
            return control(self.offset, f"device/{name}", b""), self.oracle.remove(name)
        parent = self.random.choice(["g-1", "g-2"]) if name in CHILDREN else None
        state = "removed" if roll < 0.5 else "active"
        removed: list[Row] = []
        known = self.oracle.devices.get(name)
        if known and (state == "removed" or known.publisher not in (parent or name, name)):
            removed = self.oracle.remove(name)
        return registered(self.offset, Device(name, "sensor", state, parent=parent)), removed  # type: ignore[arg-type]

    def row(self) -> dict[str, Any]:
        r = self.random
        at = self.now + r.choice([0, 0, 100, 900, -3000, -(10**10), 10**10])
        device = r.choice([*DEVICES, "s-1", "s-2", "flaps", "flaps"])
        more: dict[str, Any] = {"replay_of": "0/1/2/3"} if r.random() < 0.03 else {}
        roll = r.random()
        if roll < 0.25 or device == "flaps":
            metric = r.choice(["connected", "disconnected", "event/offline", "event/door", "config"])
            return event(device, metric, at, **more)
        if roll < 0.35:
            verdict = r.choice([Verdict.DENIED, Verdict.DEAD_LETTER])
            return row(r.choice([device, "UPPER", "", "a/b"]), at, verdict, reason="x", **more)
        if device in ("g-1", "g-2") and roll < 0.9:
            return row(r.choice(CHILDREN), at, publisher=device, **more)
        return row(device, at, **more)
