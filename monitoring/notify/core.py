"""Incidents as they stand, and what was told of them before → alerts for Alertmanager, and what is told now. Pure.

Alertmanager forgets: an alert ends unless it is told again, and nothing survives its restart but silences and what it
sent. So each look tells every open incident anew. One that closes ends, at once if people have had the time to hear of
it, else when that time is over: Alertmanager waits before it sends, and what is over by then it never sends. What was
told is remembered, so that an incident that opened and closed while we were away is told once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from schemas.vocabulary import Severity

ALERT: Final = "DeviceIncident"
_MANY_MS: Final = 7 * 86_400_000
"""What ended longer ago is forgotten; looks go back less far."""


@dataclass(frozen=True, slots=True)
class Incident:
    """A row of incidents_current. Times are milliseconds since 1970; `closed_ms` None: it is open."""

    incident: str
    scope: str
    device: str
    channel: str
    metric: str
    detector: str
    severity: Severity
    opened_ms: int
    closed_ms: int | None
    devices: int
    points: int
    explanation: str


@dataclass(frozen=True, slots=True)
class Told:
    """What was told of an incident: when first, and, once it closed, until when it is told, and which closing that was:
    an incident may be opened again."""

    first_ms: int
    until_ms: int | None = None
    closed_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Manner:
    """How is told: at least for `hold_ms`; what is not told again for `keep_ms` ends; `link` with names in braces."""

    hold_ms: int
    keep_ms: int
    link: str
    least: Severity = Severity.INFO


def begin(found: Iterable[Incident], now_ms: int) -> dict[str, Told]:
    """What counts as told at the very first start: all that is over."""
    return {one.incident: Told(now_ms, 0, one.closed_ms) for one in found if one.closed_ms is not None}


def tell(
    found: Iterable[Incident], told: Mapping[str, Told], now_ms: int, manner: Manner
) -> tuple[list[dict[str, Any]], dict[str, Told]]:
    """(alerts to post, what has been told once they are posted)."""
    alerts: list[dict[str, Any]] = []
    new = {name: one for name, one in told.items() if one.until_ms is None or one.until_ms > now_ms - _MANY_MS}
    for one in found:
        if one.severity < manner.least:
            continue
        before = told.get(one.incident)
        if before is None or (before.until_ms is not None and before.closed_ms != one.closed_ms):
            before = Told(now_ms)  # new, or opened again
        if one.closed_ms is None:
            new[one.incident] = before
            alerts.append(_alert(one, now_ms + manner.keep_ms, now_ms, manner))
            continue
        ends_ms = before.until_ms if before.until_ms is not None else max(now_ms, before.first_ms + manner.hold_ms)
        new[one.incident] = Told(before.first_ms, ends_ms, one.closed_ms)
        if before.until_ms is None or ends_ms > now_ms:
            alerts.append(_alert(one, ends_ms, now_ms, manner))
    return alerts, new


def _alert(one: Incident, ends_ms: int, now_ms: int, manner: Manner) -> dict[str, Any]:
    """As Alertmanager's API (v2) takes it. The labels are its name there: they hold the incident's id."""
    labels = {
        "alertname": ALERT,
        "severity": one.severity.name.lower(),
        "incident": one.incident,
        "scope": one.scope,
        "device": one.device,
        "channel": one.channel,
        "metric": one.metric,
        "detector": one.detector,
    }
    who = one.device if one.scope == "device" else f"{one.devices} devices of {one.scope} {one.device}"
    filled = {name: quote(labels[name], safe="") for name in ("incident", "device", "metric")}
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {
            "summary": f"{who}, {one.metric}: {one.explanation}",
            "points": str(one.points),
            "runbook": f"docs/runbooks/{ALERT}.md",
        },
        "generatorURL": manner.link.format_map(filled),
        "startsAt": _time(min(one.opened_ms, now_ms)),
        "endsAt": _time(ends_ms),
    }


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read(rows: Sequence[Mapping[str, Any]]) -> list[Incident]:
    """Rows of QUERY."""
    return [
        Incident(
            row["incident"],
            row["scope"],
            row["device"],
            row["channel"],
            row["metric"],
            row["detector"],
            Severity(int(row["severity"])),
            int(row["opened_ms"]),
            None if row["state"] == "open" else int(row["closed_ms"]),
            int(row["devices"]),
            int(row["points"]),
            row["explanation"],
        )
        for row in rows
    ]


QUERY: Final = """SELECT incident, state, scope, device, channel, metric, detector, severity, devices, points,
    explanation,
toUnixTimestamp64Milli(opened_at) AS opened_ms, toUnixTimestamp64Milli(ifNull(closed_at, opened_at)) AS closed_ms
FROM incidents_current WHERE state = 'open' OR time > now64(3) - INTERVAL 6 DAY"""
