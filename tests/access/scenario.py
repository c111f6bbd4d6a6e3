"""A stage, its control records and raw rows, as tests of access need them."""

import random
from typing import Any

import orjson

from runtime.stage.contract import Record
from schemas.control import Device
from schemas.vocabulary import Transport
from streams.access.policy import check
from tests.access.oracle import DAY_MS, Oracle
from tests.access.support import NOW_MS, control, data, registered, tick

ROLES: dict[str, Any] = {
    "sensor": {
        "publish": ["telemetry/climate", "event/*", "control/m/on"],
        "metrics": {
            "temperature": {"min": -50, "max": 80},
            "strict": {"min": 0, "refuse": True},
            "in.*": {"max": 5},
            "in.secret": "deny",
        },
        "bytes": 200,
    },
    "limited": {"publish": ["telemetry/*"], "rate": (200_000, 4)},
    "gateway": {"publish": ["telemetry/*"], "metrics": {"*": {"max": 100}, "no": "deny"}},
    "history": {"publish": ["telemetry/*"], "max_age_ms": None, "max_ahead_ms": None},
    "short": {"publish": ["telemetry/*", "config"], "max_age_ms": 3_600_000, "max_ahead_ms": 60_000},
}


DEVICES = ["s-1", "s-2", "l-1", "l-2", "g-1", "h-1", "sh-1", "c-1", "c-2", "stranger", "gone", "odd"]


def policy_text(roles: dict[str, Any], unknown: str | None) -> str:
    """The same policy in the language of policies (JSON is YAML)."""
    said: dict[str, Any] = {}
    for name, role in roles.items():
        one: dict[str, Any] = {"publish": role["publish"]}
        if "metrics" in role:
            one["metrics"] = {
                metric: rule
                if rule == "deny"
                else {k: v for k, v in rule.items() if k != "refuse"}
                | ({"out_of_range": "refuse"} if rule.get("refuse") else {})
                for metric, rule in role["metrics"].items()
            }
        if "rate" in role:
            one |= {"rate": f"{1_000_000 // role['rate'][0]}/s", "burst": role["rate"][1]}
        if "bytes" in role:
            one["bytes"] = role["bytes"]
        for key in ("max_age", "max_ahead"):
            limit = role.get(f"{key}_ms", "")
            if limit != "":
                one[key] = "unlimited" if limit is None else f"{limit // 1000}s"
        said[name] = one
    return orjson.dumps({"roles": said, "unknown": unknown}).decode()


class Scenario:
    """Makes records, and gives each to the oracle as to the stage."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.oracle = Oracle()
        self.now, self.offset = NOW_MS, 0
        self.seq: dict[str, tuple[int, int]] = {}
        self.sent: list[dict[str, Any]] = []

    def record(self) -> tuple[Record, list[Any] | None]:
        """A record, and of a data record the fates of its messages."""
        self.offset += 1
        roll = self.random.random()
        if self.offset == 1 or roll < 0.06:
            return self.policy(), None
        if self.offset < 14 or roll < 0.15:
            return self.device(), None
        if roll < 0.2:
            return tick(self.offset, self.now), None
        rows = [self.row() for _ in range(self.random.choice([1, 2, 7, 40]))]
        return data(self.offset, rows), [self.oracle.row(row) for row in rows]

    def policy(self) -> Record:
        roles = dict(ROLES)
        if self.offset > 1 and self.random.random() < 0.5:
            roles.pop(self.random.choice(["sensor", "gateway"]))
        unknown = self.random.choice([None, "short"])
        self.oracle.roles, self.oracle.unknown = roles, unknown
        return control(self.offset, "policy", check(policy_text(roles, unknown), "test").encode())

    def device(self) -> Record:
        known = {"s": "sensor", "l": "limited", "g": "gateway", "h": "history", "sh": "short", "c": "sensor"}
        name = DEVICES[self.offset % 9] if self.offset < 14 else self.random.choice(DEVICES)
        role = known.get(name.split("-")[0], "nonsense")
        state = "removed" if name == "gone" or self.random.random() < 0.1 else "active"
        parent = self.random.choice(["g-1", "g-1", "g-1", None, "s-1"]) if name.startswith("c") else None
        if self.random.random() < 0.05:
            self.oracle.registry[name] = Device(name, role, "removed")  # a tombstone ends a device
            return control(self.offset, f"device/{name}", b"")
        found = Device(name, role, state, parent=parent)  # type: ignore[arg-type]
        self.oracle.registry[name] = found
        return registered(self.offset, found)

    def row(self) -> dict[str, Any]:
        r = self.random
        self.now += r.choice([0, 0, 1, 20, 60])
        if self.sent and r.random() < 0.08:
            again = dict(r.choice(self.sent[-60:]))
            if r.random() < 0.4:
                again["replay_of"] = f"0/3/{r.randrange(4)}/{r.randrange(3)}"
            return again
        if r.random() < 0.05:
            return self.platform_row()
        device = r.choice([*DEVICES, "s-1", "l-1", "l-1", "g-1", "sh-1", "sh-1", "sh-1"])
        row = {
            "device": device,
            "topic": self.topic(device),
            "payload": self.payload(device),
            "received_at": self.now,
        }
        if r.random() < 0.3:
            row["boot"], row["seq"] = map(str, self.name(device))
        if r.random() < 0.1:
            row["ts"] = str(self.now - r.choice([5, 2 * DAY_MS, 500 * DAY_MS, -2 * DAY_MS]))
        if r.random() < 0.01:
            row["device"] = r.choice(["UPPER", "a/b", "x" * 70, "nul\0"])
        self.sent.append(row)
        return row

    def platform_row(self) -> dict[str, Any]:
        r = self.random
        device = r.choice(["s-1", "nobody", "UPPER"])
        return {
            "device": device if r.random() < 0.9 else "other",
            "topic": f"p/{device}/{r.choice(['connected', 'disconnected', 'disconnected', 'gone'])}",
            "payload": b'{"reason":"timeout"}',
            "transport": int(Transport.PLATFORM),
            "received_at": self.now,
        }

    def topic(self, device: str) -> str:
        roll = self.random.random()
        if roll < 0.75:
            return f"d/{device}/telemetry/climate"
        other = self.random.choice(["telemetry/motor", "event/offline", "event/door", "config", "control/m/on"])
        if roll < 0.95:
            return f"d/{device}/{other}"
        return self.random.choice(["d/s-1/telemetry/climate", "d/s-1/event/offline", f"d/{device}/what", "x", ""])

    def name(self, device: str) -> tuple[int, int]:
        """A (boot, seq): mostly the next."""
        boot, seq = self.seq.get(device, (3, -1))
        step = self.random.choice([1] * 12 + [0, 2, 5, -1, 90])
        if device == "sh-1":  # loses every other message
            step = self.random.choice([2] * 12 + [-seq, 1 - seq])
        elif self.random.random() < 0.04:
            boot, seq = max(0, boot + self.random.choice([1, 1, 2, -1, -4])), -1
        self.seq[device] = boot, max(seq, seq + step, 0)
        return boot, max(0, seq + step)

    def payload(self, device: str) -> bytes:
        r = self.random
        if r.random() < 0.06:
            return r.choice([b"", b"{", b"[]", b'{"a":NaN}', b"\xff", b"17", b'{"boot":3,"seq":1,"a":[1]}', b"1],[2"])
        body: dict[str, Any] = {}
        for metric in r.sample(
            ["temperature", "strict", "in.a", "in.secret", "no", "humidity", "text"], r.choice([1, 1, 2])
        ):
            body[metric] = "on" if metric == "text" else round(r.uniform(-60, 120), 2)
        if r.random() < 0.85:
            body = {k: v for k, v in body.items() if k in ("temperature", "in.a")} or {"temperature": 20.5}
        if r.random() < 0.4:
            body["boot"], body["seq"] = self.name(device)
        if r.random() < 0.1:
            body["ts"] = self.now - r.choice([0, 1000, DAY_MS, 401 * DAY_MS, -2 * DAY_MS, -(10**14), 10**14])
        if r.random() < (0.5 if device == "g-1" else 0.05):
            body["device"] = r.choice(["c-1", "c-1", "c-2", "s-1", "nobody", device])
        if r.random() < 0.02:
            body["humidity"] = "x" * 200
        return orjson.dumps([body, {"temperature": 1}] if r.random() < 0.1 else body)
