"""What access should answer, said a message at a time with dictionaries and sets, and nothing of the core."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas.errors import ContractError
from schemas.topics import is_device_id, parse_platform, parse_uplink
from schemas.vocabulary import Quality, Transport, Verdict
from streams.access.core.runs import Fresh
from streams.access.decode.formats import format_of
from streams.access.decode.limits import Invalid
from streams.access.decode.message import NO_TIME
from tests.access.sets import SetsOfDevice
from tests.access.support import NOW_MS
from tests.access.tokens import Tokens

DAY_MS = 86_400_000
Fate = tuple[Verdict, str | None, list[tuple[Any, ...]]]
"""Verdict, rule that was broken, readings (device, channel, metric, time, value, text, quality) or the one event.
Verdict EVENT: a row of the platform's own."""


class Event(NamedTuple):
    """What an event row says."""

    device: str
    metric: str
    time: Any
    payload: bytes
    boot: int | None
    seq: int | None


class Reading(NamedTuple):
    metric: str
    value: float
    text: str | None
    time_ms: int
    child: str | None


@dataclass
class Oracle:
    """`roles`: as YAML has them, with rate as (interval µs, burst)."""

    roles: dict[str, Any] | None = None
    unknown: str | None = None
    registry: dict[str, Any] = field(default_factory=dict)
    seqs: dict[str, SetsOfDevice] = field(default_factory=dict)
    tokens: dict[str, Tokens] = field(default_factory=dict)
    replayed: set[str] = field(default_factory=set)

    def role_of(self, device: str) -> tuple[dict[str, Any] | None, str]:
        entry = self.registry.get(device)
        if self.roles is None:
            return None, "unknown_device"
        if entry is None:
            return (self.roles[self.unknown], "") if self.unknown else (None, "unknown_device")
        if entry.state == "removed":
            return None, "unknown_device"
        return self.roles.get(entry.role), "role"

    def row(self, row: dict[str, Any]) -> Fate:
        """The fate of a raw row, a message or the platform's own."""
        if row.get("transport") != Transport.PLATFORM:
            return self.message(row)
        try:
            device, event = parse_platform(row["topic"])
        except ContractError:
            return Verdict.EVENT, None, []
        events = [Event(device, event, row["received_at"], row["payload"], None, None)]
        return Verdict.EVENT, None, events if device == row["device"] else []

    def message(self, row: dict[str, Any]) -> Fate:
        device, replay = row["device"], row.get("replay_of")
        dead, boot, seq, message, uplink = self.decoded(row)
        repeat = False
        if replay is not None:
            repeat = replay in self.replayed
            self.replayed.add(replay)
        elif boot >= 0 and seq >= 0 and is_device_id(device):
            fresh = self.seqs.setdefault(device, SetsOfDevice()).take(boot, seq)
            repeat = fresh is Fresh.REPEAT
            dead = dead or {Fresh.SEQ_CLOSED: "seq_closed", Fresh.OLD_BOOT: "old_boot"}.get(fresh)
        if repeat:
            return Verdict.DUPLICATE, None, []
        if dead:
            return Verdict.DEAD_LETTER, dead, []
        readings = message or []
        denied = self.denied(row, uplink, readings)
        role, _ = self.role_of(device)
        if denied is None and replay is None and role and role.get("rate"):
            bucket = self.tokens.setdefault(device, Tokens(*role["rate"]))
            if not bucket.take(row.get("received_at", NOW_MS) * 1000):
                denied = "rate"
        if denied:
            return Verdict.DENIED, denied, []
        if uplink.branch != "telemetry":
            return Verdict.ACCEPTED, None, [event_of(row, uplink, boot, seq)]
        return Verdict.ACCEPTED, None, [self.reading(row, uplink, r) for r in readings]

    def decoded(self, row: dict[str, Any]) -> tuple[str | None, int, int, Any, Any]:
        """(rule that makes it a dead letter, boot, seq, message, topic)"""
        boot, seq = (int(row.get(key) or -1) if row.get(key) != "0" else 0 for key in ("boot", "seq"))
        dead = None if is_device_id(row["device"]) else "topic"
        try:
            uplink = parse_uplink(row["topic"])
        except ContractError:
            return "topic", boot, seq, None, None
        if uplink.branch != "telemetry":
            return dead, boot, seq, None, uplink
        try:
            message = format_of(row.get("content_type"))(row["payload"], row.get("received_at", NOW_MS))
        except Invalid as error:
            rule, named = str(error).partition(":")[0], (error.boot, error.seq)
            message = None
        else:
            rule, named, message = None, (message.boot, message.seq), self.readings(row, message)
        dead = dead or rule
        for key, mine, theirs in (("boot", boot, named[0]), ("seq", seq, named[1])):
            if mine >= 0 and theirs >= 0 and mine != theirs:
                dead = dead or key
        boot, seq = (mine if mine >= 0 else theirs for mine, theirs in zip((boot, seq), named, strict=True))
        if any(not -2_208_988_800_000 <= r.time_ms < 10_413_792_000_000 for r in message or []):
            dead = dead or "ts"
        return dead, boot, seq, message, uplink

    def readings(self, row: dict[str, Any], message: Any) -> list[Reading]:
        otherwise = int(row["ts"]) if row.get("ts") else int(row.get("received_at", NOW_MS))
        return [
            Reading(metric, value, text, otherwise if time_ms == NO_TIME else time_ms, child)
            for metric, value, text, time_ms, child in message.readings
        ]

    def denied(self, row: dict[str, Any], uplink: Any, readings: list[Any]) -> str | None:
        device = row["device"]
        if uplink.device != device:
            return "topic"
        role, why = self.role_of(device)
        if role is None:
            return why
        if not may(role, uplink):
            return "channel"
        if len(row["payload"]) > role.get("bytes", 10**9):
            return "bytes"
        theirs = [self.of_child(device, r, role) for r in readings]
        if any(r is None or not may(r, uplink) for r in theirs):
            return "child"
        named = [(metric_of(r, reading.metric), reading, r) for r, reading in zip(theirs, readings, strict=True)]
        if any(rule is None for rule, _, _ in named):
            return "metric"
        if any(quality(rule, reading.value) and rule.get("refuse") for rule, reading, _ in named):
            return "limit"
        received = row.get("received_at", NOW_MS)
        for rule_name, sign, default in (("age", 1, 400 * DAY_MS), ("ahead", -1, DAY_MS)):
            for _, reading, r in named:
                limit = r.get(f"max_{rule_name}_ms", default)
                if limit is not None and sign * (received - reading.time_ms) > limit:
                    return rule_name
        return None

    def of_child(self, publisher: str, reading: Any, role: dict[str, Any]) -> dict[str, Any] | None:
        """The role that a reading falls under; None when the publisher may not speak for the child."""
        if reading.child in (None, publisher):
            return role
        entry = self.registry.get(reading.child)
        if entry is None or entry.parent != publisher:
            return None
        return self.role_of(reading.child)[0]

    def reading(self, row: dict[str, Any], uplink: Any, reading: Any) -> tuple[Any, ...]:
        role, _ = self.role_of(reading.child or row["device"])
        return (
            reading.child or row["device"],
            uplink.names[0],
            reading.metric,
            reading.time_ms,
            None if reading.text is not None else reading.value,
            reading.text,
            quality(metric_of(role, reading.metric), reading.value),
        )


def event_of(row: dict[str, Any], uplink: Any, boot: int, seq: int) -> Event:
    metric = "/".join((uplink.branch, *uplink.names))
    named = (None if number < 0 else number for number in (boot, seq))
    return Event(row["device"], metric, int(row.get("ts") or row["received_at"]), row["payload"], *named)


def may(role: dict[str, Any], uplink: Any) -> bool:
    if uplink.branch == "event" and uplink.names == ("offline",):
        return True
    topic = "/".join((uplink.branch, *uplink.names))
    return topic in role["publish"] or (uplink.branch + "/*" * len(uplink.names)) in role["publish"]


def metric_of(role: Any, metric: str) -> dict[str, Any] | None:
    if role is None or "metrics" not in role:
        return {}
    found = [p for p in role["metrics"] if p == metric or (p.endswith("*") and metric.startswith(p[:-1]))]
    if not found:
        return None
    rule = role["metrics"][metric if metric in found else max(found, key=len)]
    return None if rule == "deny" else rule


def quality(rule: dict[str, Any] | None, value: float) -> int:
    rule = rule or {}
    if value < rule.get("min", float("-inf")):
        return int(Quality.BELOW_RANGE)
    return int(Quality.ABOVE_RANGE) if value > rule.get("max", float("inf")) else 0
