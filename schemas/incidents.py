"""`telemetry.incidents`: changes of incidents, one row for each opening, significant change and closing; one
record for each tick and for each record of readings that changes some.

An incident's id is made of what it is about, so that parts of a group's incident from several partitions have one id
and merge where they are read: the first opening, the worst peak, the sums of points and devices, the last closing.

Version 1.
    incident       id: 16 hex digits
    state          vocabulary.IncidentState
    detector       as in anomalies
    scope          aggregates.DEVICE, or what groups: role, site, model …
    device         device id; for groups the value of that field or label
    publisher      in whose partition the series lives; null for groups
    channel, metric
    time           stream time of this row
    opened_at, peak_at, last_at   times of the first, the worst and the last strange reading
    closed_at      null until it is closed
    peak_value     null where there is none (silence)
    peak_score     0 to 1
    low, high      expected range at the peak; null where there is none
    points         strange readings so far, of this partition
    devices        devices so far, of this partition: 1 but for groups
    severity       vocabulary.Severity
    explanation    of the peak, one line; where a group's incident took this one over: "part of incident …; …"
"""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from schemas import ipc

NAME: Final = "telemetry.incidents"
VERSION: Final = 1

_WORD: Final = pa.dictionary(pa.int32(), pa.string())
_MS: Final = pa.timestamp("ms", "UTC")

SCHEMA: Final = pa.schema(
    [
        pa.field("incident", pa.string(), nullable=False),
        pa.field("state", _WORD, nullable=False),
        pa.field("detector", _WORD, nullable=False),
        pa.field("scope", _WORD, nullable=False),
        pa.field("device", _WORD, nullable=False),
        pa.field("publisher", _WORD),
        pa.field("channel", _WORD, nullable=False),
        pa.field("metric", _WORD, nullable=False),
        pa.field("time", _MS, nullable=False),
        pa.field("opened_at", _MS, nullable=False),
        pa.field("peak_at", _MS, nullable=False),
        pa.field("last_at", _MS, nullable=False),
        pa.field("closed_at", _MS),
        pa.field("peak_value", pa.float64()),
        pa.field("peak_score", pa.float64(), nullable=False),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("points", pa.int64(), nullable=False),
        pa.field("devices", pa.int64(), nullable=False),
        pa.field("severity", pa.uint8(), nullable=False),
        pa.field("explanation", pa.string(), nullable=False),
    ]
)


def read(found: Mapping[str, bytes], value: bytes) -> pa.RecordBatch:
    """The batch of a record with rows, of any version up to VERSION; see schemas.ipc.read for what it raises."""
    return ipc.read(found, value, SCHEMA, NAME, VERSION)
