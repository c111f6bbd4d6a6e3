"""Metrics of the control relay."""

from prometheus_client import Counter, Gauge

TICKS = Counter("millrace_relay_ticks", "Ticks written to every partition.")
WITHHELD = Counter("millrace_relay_ticks_withheld", "Ticks withheld because the relay's clock and Kafka's differ.")
CLOCK_OFF = Gauge(
    "millrace_relay_clock_off_seconds", "Smallest measured difference between the relay's clock and Kafka's."
)
RELAYED = Counter("millrace_relay_records", "Control records copied to telemetry.raw, once for all partitions.")
BROKEN = Counter(
    "millrace_relay_broken_records", "Control records that cannot be decoded; the device of such a record is denied."
)
POSITION = Gauge("millrace_relay_position", "Offset in platform.control up to which all records are in telemetry.raw.")
