"""Metrics of the watch. Gauges of an engine that does not answer keep their last value."""

from typing import Final

from prometheus_client import Gauge

UP: Final = Gauge("millrace_watch_up", "1 if the last check succeeded", ["at"])
LOOKED: Final = Gauge("millrace_watch_looked_timestamp_seconds", "Time of the last successful check", ["at"])

LEDGER: Final = Gauge("millrace_ledger", "Totals of the ledger; the difference must be 0", ["of", "count"])
TABLE_ROWS: Final = Gauge("millrace_clickhouse_table_rows", "Rows of a table", ["table"])
TABLE_BYTES: Final = Gauge("millrace_clickhouse_table_bytes", "Bytes of a table on disk", ["table"])
TABLE_PARTS: Final = Gauge(
    "millrace_clickhouse_table_parts", "Active parts of a table in all its partitions", ["table"]
)
PARTITION_PARTS: Final = Gauge(
    "millrace_clickhouse_partition_parts",
    "Most active parts of one partition of a table; inserts slow down above 1,000",
    ["table"],
)
DEVICES: Final = Gauge("millrace_devices", "Devices by presence: online or offline", ["state"])
INCIDENTS: Final = Gauge("millrace_incidents_open", "Open incidents, by severity", ["severity"])

BROKERS: Final = Gauge("millrace_kafka_brokers", "Kafka brokers that respond")
PARTITIONS: Final = Gauge(
    "millrace_kafka_partitions", "Partitions by state: whole, under_replicated, leaderless", ["state"]
)
GROUP_LAG: Final = Gauge(
    "millrace_kafka_group_lag_records",
    "Records that a group has not committed, also while it has no members",
    ["group", "topic"],
)

STORED: Final = Gauge("millrace_mosquitto_stored_messages", "Messages that mosquitto holds: queues and retained ones")
STORED_BYTES: Final = Gauge("millrace_mosquitto_stored_bytes", "Bytes of the payloads of messages that mosquitto holds")
HEAP: Final = Gauge("millrace_mosquitto_heap_bytes", "Memory that mosquitto has allocated")
CLIENTS: Final = Gauge("millrace_mosquitto_clients", "Clients connected to mosquitto, the bridge included")
RECEIVED: Final = Gauge("millrace_mosquitto_received_messages", "Messages that mosquitto received since its start")
SENT: Final = Gauge("millrace_mosquitto_sent_messages", "Messages that mosquitto sent since its start")
DROPPED: Final = Gauge("millrace_mosquitto_dropped_messages", "Messages that mosquitto dropped since its start")

DISK_FREE: Final = Gauge("millrace_disk_free_bytes", "Free bytes that the service may use", ["disk"])
DISK_SIZE: Final = Gauge("millrace_disk_size_bytes", "Size of the disk in bytes", ["disk"])
