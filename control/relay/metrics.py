"""Metrics of the control relay."""

from prometheus_client import Counter, Gauge

TICKS = Counter("millrace_relay_ticks", "Ticks told to every partition.")
WITHHELD = Counter("millrace_relay_ticks_withheld", "Ticks withheld because our clock and Kafka's disagree.")
CLOCK_OFF = Gauge("millrace_relay_clock_off_seconds", "How far our clock is off Kafka's, at least.")
RELAYED = Counter("millrace_relay_records", "Control records carried into telemetry.raw, once for all partitions.")
BROKEN = Counter("millrace_relay_broken_records", "Control records that break the contract; a device of one is denied.")
POSITION = Gauge("millrace_relay_position", "Offset in platform.control up to which everything is in the stream.")
