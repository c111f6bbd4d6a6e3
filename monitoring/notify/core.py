"""Current incidents and what was sent for them before → alerts for Alertmanager, and what is sent now. Pure.

Alertmanager resolves an alert that is not sent again, and keeps nothing across a restart but silences and its
notification log. So every open incident is sent at each poll. A closed incident is resolved, but not before it was
active for `hold_ms`: Alertmanager waits before it notifies, and drops what resolved by then. What was sent is
remembered, so that an incident that opened and closed while this service was down is sent once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from schemas.vocabulary import Severity

ALERT: Final = "DeviceIncident"
_MANY_MS: Final = 7 * 86_400_000
"""Incidents that ended longer ago are forgotten; queries go back less far."""


@dataclass(frozen=True, slots=True)
class Incident:
    """A row of incidents_current. Times are milliseconds since 1970; `closed_ms` is None while it is open."""

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
class Sent:
    """What was sent for an incident: when first and, once it closed, until when its alert is active, and the time of
    that closing, since an incident may open again."""

    first_ms: int
    until_ms: int | None = None
    closed_ms: int | None = None


@dataclass(frozen=True, slots=True)
class AlertOptions:
    """An alert is active for at least `hold_ms` and expires `keep_ms` after it was last sent; `link` is a template with
    the names incident, device and metric in braces; incidents below `least` are not sent."""

    hold_ms: int
    keep_ms: int
    link: str
    least: Severity = Severity.INFO


def begin(found: Iterable[Incident], now_ms: int) -> dict[str, Sent]:
    """What counts as sent at the very first start: all closed incidents."""
    return {one.incident: Sent(now_ms, 0, one.closed_ms) for one in found if one.closed_ms is not None}


def plan_alerts(
    found: Iterable[Incident], sent: Mapping[str, Sent], now_ms: int, options: AlertOptions
) -> tuple[list[dict[str, Any]], dict[str, Sent]]:
    """(alerts to post, what counts as sent once they are posted)."""
    alerts: list[dict[str, Any]] = []
    new = {name: one for name, one in sent.items() if one.until_ms is None or one.until_ms > now_ms - _MANY_MS}
    for one in found:
        if one.severity < options.least:
            continue
        before = sent.get(one.incident)
        if before is None or (before.until_ms is not None and before.closed_ms != one.closed_ms):
            before = Sent(now_ms)  # new, or opened again
        if one.closed_ms is None:
            new[one.incident] = before
            alerts.append(_alert(one, now_ms + options.keep_ms, now_ms, options))
            continue
        ends_ms = before.until_ms if before.until_ms is not None else max(now_ms, before.first_ms + options.hold_ms)
        new[one.incident] = Sent(before.first_ms, ends_ms, one.closed_ms)
        if before.until_ms is None or ends_ms > now_ms:
            alerts.append(_alert(one, ends_ms, now_ms, options))
    return alerts, new


def _alert(one: Incident, ends_ms: int, now_ms: int, options: AlertOptions) -> dict[str, Any]:
    """As Alertmanager's API (v2) takes it. The labels are its identity there and contain the incident's id."""
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
        "generatorURL": options.link.format_map(filled),
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
