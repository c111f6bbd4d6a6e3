"""Metrics of the way into Kafka, the same for every bridge process."""

from prometheus_client import Counter, Gauge, Histogram

from runtime.probes import DELAY_BUCKETS_S

MESSAGES = Counter("millrace_bridge_messages", "Messages received.")
BYTES = Counter("millrace_bridge_bytes", "Bytes received, as sent over the network.", unit="bytes")
ACKNOWLEDGED = Counter("millrace_bridge_acknowledged", "Messages stored in Kafka and acknowledged to their sender.")
RECORDS = Counter("millrace_bridge_records", "Records written to telemetry.raw.")
HELD = Gauge(
    "millrace_bridge_held_bytes", "Bytes received and not yet acknowledged by Kafka; at most MILLRACE_BUDGET_BYTES."
)
GROUPS = Gauge("millrace_bridge_groups", "Groups of records that wait for Kafka's acknowledgement.")
QUEUE = Gauge("millrace_bridge_kafka_queue", "Records and events in the Kafka client's own queue.")
PAUSED = Gauge("millrace_bridge_paused", "1 while reading is paused because MILLRACE_BUDGET_BYTES is reached.")
PAUSES = Counter("millrace_bridge_pauses", "Times that reading was paused.")
ACK_DELAY = Histogram(
    "millrace_bridge_ack_seconds", "From closing a group to its acknowledgement by Kafka.", buckets=DELAY_BUCKETS_S
)
