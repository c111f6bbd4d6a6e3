"""Metrics of notify."""

from typing import Final

from prometheus_client import Counter, Gauge

TOLD_AT: Final = Gauge("millrace_notify_told_timestamp_seconds", "Time at which Alertmanager last accepted all alerts")
INCIDENTS: Final = Gauge(
    "millrace_notify_incidents", "Incidents sent at the last poll: open ones, and closed ones within the hold time"
)
FAILURES: Final = Counter("millrace_notify_failures", "Polls at which incidents could not be read or sent", ["at"])
