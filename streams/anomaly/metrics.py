"""Metrics of the anomaly stage, beside those of every stage (runtime/stage/metrics.py), which hold open incidents,
series that warm up and silent ones as `millrace_stage_state_items{stage="anomaly"}`."""

from prometheus_client import Counter, Histogram

from runtime.probes import DELAY_BUCKETS_S
from schemas.vocabulary import Severity
from streams.anomaly.core.parts import Seen

READINGS = Counter("millrace_anomaly_readings_total", "readings judged")
POINTS = Counter("millrace_anomaly_points_total", "anomalous readings and silences, by detector", ["detector"])
OPENED = Counter("millrace_anomaly_incidents_total", "incidents opened", ["detector", "severity"])
CLOSED = Counter("millrace_anomaly_incidents_closed_total", "incidents closed", ["detector"])
REFUSED = Counter(
    "millrace_anomaly_refused_total",
    "readings not judged: device_series and partition_series have no room for another series, not_finite is NaN or inf;"
    " open_incidents are points that would have opened too many at once",
    ["reason"],
)
MARKS = Counter(
    "millrace_anomaly_marks_total",
    "operators' marks: raised or lowered a threshold, kept it; unknown, full and unreadable changed nothing",
    ["outcome"],
)
DELAY = Histogram(
    "millrace_anomaly_delay_seconds",
    "from the bridge's receipt of a record's last reading to its score",
    buckets=DELAY_BUCKETS_S,
)


def observe(seen: Seen, now_s: float) -> None:
    """Count one record."""
    READINGS.inc(seen.readings)
    for detector, count in seen.points.items():
        POINTS.labels(detector).inc(count)
    for (detector, severity), count in seen.opened.items():
        OPENED.labels(detector, Severity(severity).name.lower()).inc(count)
    for detector, count in seen.closed.items():
        CLOSED.labels(detector).inc(count)
    for reason, count in seen.refused.items():
        REFUSED.labels(reason).inc(count)
    for outcome, count in seen.marks.items():
        MARKS.labels(outcome).inc(count)
    if seen.received_ms:
        DELAY.observe(max(0.0, now_s - seen.received_ms / 1000))
