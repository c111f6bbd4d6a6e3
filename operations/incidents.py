"""Incidents as ClickHouse tells them: the parts of all partitions merged, each part as its newest row says."""

from collections.abc import Mapping
from typing import Any, Final

from runtime.clickhouse.client import ClickHouse
from schemas.vocabulary import Severity

COLUMNS: Final = (
    "incident", "scope", "device", "channel", "metric", "detector", "severity", "opened_at", "peak_at", "last_at",
    "closed_at", "peak_value", "peak_score", "low", "high", "points", "devices", "explanation", "publisher",
)  # fmt: skip
SEVERITIES: Final = tuple(severity.name.lower() for severity in Severity)
"""By number."""

_MERGED: Final = """
SELECT incident, any(newest.scope), any(newest.device), any(newest.channel), any(newest.metric), any(newest.detector),
    max(newest.severity) AS severity, min(newest.opened_at) AS opened_at,
    argMax(newest.peak_at, newest.peak_score), max(newest.last_at) AS last_at,
    if(countIf(newest.state != 'closed') = 0, max(newest.closed_at), NULL) AS closed_at,
    argMax(tuple(newest.peak_value), newest.peak_score).1, max(newest.peak_score),
    argMax(tuple(newest.low), newest.peak_score).1, argMax(tuple(newest.high), newest.peak_score).1,
    sum(newest.points), sum(newest.devices), argMax(newest.explanation, newest.peak_score), any(newest.publisher)
FROM
(
    SELECT * FROM incidents
    WHERE {incident:String} IN ('', incident) AND {device:String} IN ('', device)
        AND {detector:String} IN ('', detector)
    ORDER BY raw_epoch DESC, raw_offset DESC, row DESC
    LIMIT 1 BY incident, raw_partition
) AS newest
GROUP BY incident
HAVING (closed_at IS NULL OR {all:UInt8}) AND last_at >= fromUnixTimestamp64Milli({since:Int64})
ORDER BY severity DESC, opened_at DESC
LIMIT {most:UInt32}"""
_POINTS: Final = """
SELECT time, device, channel, metric, value, low, high, score, explanation FROM anomalies
WHERE incident = {incident:String} ORDER BY time, raw_offset, row LIMIT {most:UInt32}"""


def incidents(
    db: ClickHouse,
    incident: str = "",
    device: str = "",
    detector: str = "",
    closed_too: bool = False,
    since_ms: int = 0,
    most: int = 100,
) -> list[dict[str, Any]]:
    """Worst and newest first. Empty texts: any. Times are UTC."""
    given: Mapping[str, Any] = {
        "incident": incident,
        "device": device,
        "detector": detector,
        "all": int(closed_too),
        "since": since_ms,
        "most": most,
    }
    return [dict(zip(COLUMNS, row, strict=True)) for row in db.rows(_MERGED, given)]


def points(db: ClickHouse, incident: str, most: int = 20) -> list[dict[str, Any]]:
    """The first strange readings of an incident."""
    names = ("time", "device", "channel", "metric", "value", "low", "high", "score", "explanation")
    rows = db.rows(_POINTS, {"incident": incident, "most": most})
    return [dict(zip(names, row, strict=True)) for row in rows]
