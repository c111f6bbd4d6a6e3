"""What notify tells Prometheus."""

from typing import Final

from prometheus_client import Counter, Gauge

TOLD_AT: Final = Gauge(
    "millrace_notify_told_timestamp_seconds", "When Alertmanager last took all that there was to tell"
)
INCIDENTS: Final = Gauge(
    "millrace_notify_incidents", "Incidents told at the last look: open ones, and ended ones still held"
)
FAILURES: Final = Counter("millrace_notify_failures", "Looks at which incidents could not be read or told", ["at"])
