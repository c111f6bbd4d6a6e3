"""Metrics of bridge-http, beside those of every bridge in bridge.metrics."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from runtime.probes import DELAY_BUCKETS_S

REQUESTS = Counter("millrace_http_requests", "Requests answered.", ["status"])
DURATION = Histogram(
    "millrace_http_request_seconds",
    "From a request's headers to its response; for 202 this includes Kafka's acknowledgement.",
    buckets=DELAY_BUCKETS_S,
)
BODY = Counter("millrace_http_body_bytes", "Bytes of bodies read, as sent.", unit="bytes")
READING = Gauge("millrace_http_reading_bytes", "Bytes of bodies that are being read; bounded with what is held.")
CONNECTIONS = Gauge("millrace_http_connections", "Open connections, including TLS handshakes in progress.")
REFUSED = Counter(
    "millrace_http_connections_refused",
    "Connections answered with 503, or closed before their TLS handshake, because too many were open.",
)
DEVICES = Gauge("millrace_http_devices", "Devices that have a token.")


def answered(status: int) -> None:
    """Count an answer."""
    _answers(status).inc()


@cache
def _answers(status: int) -> Counter:
    return REQUESTS.labels(status)
