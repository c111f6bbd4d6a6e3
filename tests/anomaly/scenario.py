"""Random histories of a partition for the anomaly stage: everything that may come, and what should not."""

import random
from collections.abc import Iterator
from typing import Any

from runtime.stage.contract import Record
from schemas.control import Device, Mark, device_key, mark_key
from schemas.headers import Version
from streams.anomaly.core.state import SETTINGS_KEY
from streams.anomaly.detectors import check, shipped
from tests.anomaly.support import NOW_MS, control, data, marked, registered, settings, tick

DEVICES = [f"d-{n}" for n in range(12)]
SETTINGS = [
    shipped(),
    """\
rules:
- metric: temperature
  role: motor
  detectors:
  - limits: {high: 25, high_clear: 22, low: 12, for: 1m}
  - limits: {high: 35, name: hot, severity: critical}
  - rate: {max: 5/min}
  - stuck: {readings: 5}
  - silence: {for: 3m}
  - residual: {sensitivity: 4}
- metric: "*"
  labels: {site: north}
  detectors: [stuck: {for: 5m}, silence: {times: 2}, limits: {low: 15, low_clear: 16, name: hot}]
- {metric: humidity, detectors: [residual: {sensitivity: 20}]}
shifts:
- {group: site, devices: 2, share: 20 %, within: 2m}
- {group: all, devices: 4, within: 5m}
incidents: {quiet: 2m, cool_down: 4m}
""",
    "rules: []\n",
]
GARBAGE = [b"", b"{}", b"\xff\xfe", b"[1,2", b'{"rules":5}', b"null", b'{"id":"d-1","role":[1],"labels":3}']


class Scenario:
    """Records in order of their offsets. Devices speak every minute or so; some fail; operators meddle."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.offset = 0
        self.now_ms = NOW_MS
        self.incidents: list[dict[str, Any]] = []
        """Rows of incidents so far, from which operators choose; the test puts them here."""
        self._down: set[str] = set()

    def records(self, count: int) -> Iterator[Record]:
        for _ in range(count):
            yield self.record()
            self.offset += 1

    def record(self) -> Record:
        what = self.random.random()
        if what < 0.03:
            return self._control()
        if what < 0.35:
            self.now_ms += self.random.choice((1000, 20_000, 60_000))
            return tick(self.offset, self.now_ms)
        return data(self.offset, [row for _ in range(self.random.randrange(30)) for row in self._rows()])

    def _rows(self) -> list[dict[str, Any]]:
        r = self.random
        device = r.choice(DEVICES)
        if r.random() < 0.02:
            self._down ^= {device}
        if device in self._down:
            return []
        at = self.now_ms + r.randrange(-5000, 5000) if r.random() < 0.98 else r.randrange(0, 4 * NOW_MS)
        row = {"device": device, "time": at, "received_at": self.now_ms + r.randrange(1000)}
        row |= {"publisher": "gw-1"} if device in DEVICES[:2] else {}
        rows = [
            row | {"metric": name, "value": self._value(base)} for name, base in (("temperature", 20), ("humidity", 50))
        ]
        if r.random() < 0.03:
            rows.append(row | {"verdict": r.choice((1, 2, 4)), "reason": "x"})
        if r.random() < 0.03:
            rows.append(row | {"metric": "state", "text": "on"})
        if r.random() < 0.02:
            rows.append(row | {"metric": f"new.{r.randrange(40)}", "channel": "Kanäle", "value": 1.0})
        return rows

    def _value(self, base: float) -> float:
        r = self.random
        if r.random() < 0.02:
            return r.choice((float("nan"), float("inf"), float("-inf"), 1e300, -1e300, 0.0, 5e-324))
        if r.random() < 0.03:
            return base * r.choice((0.1, 2, 30))
        return round(base + r.gauss(0, 0.5), r.choice((0, 0, 2)))

    def _control(self) -> Record:
        r = self.random
        what = r.randrange(5)
        if what == 0:
            return settings(self.offset, r.choice(SETTINGS))
        if what == 1:
            labels = {"site": r.choice(("north", "south")), "model": r.choice("ab")}
            state = r.choice(("active", "active", "active", "removed"))
            return registered(
                self.offset, Device(r.choice(DEVICES), r.choice(("motor", "meter")), state, labels=labels)
            )
        if what == 2 and self.incidents:
            row = r.choice(self.incidents)
            said = r.choice(("false-alarm", "false-alarm", "confirmed"))
            about = (row["scope"], row["device"], row["channel"], row["metric"], row["detector"])
            return marked(self.offset, Mark(row["incident"], said, row["publisher"], self.now_ms, *about))
        if what == 3:
            version = Version(0, max(0, self.offset - r.randrange(50)))
            return control(self.offset, SETTINGS_KEY, check(r.choice(SETTINGS), "x").encode(), version)
        key = r.choice((SETTINGS_KEY, device_key("d-1"), device_key("NO"), mark_key("abc"), "policy", "strange/key"))
        return control(self.offset, key, r.choice(GARBAGE))
