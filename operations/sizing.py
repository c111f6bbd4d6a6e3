"""How much of everything a fleet needs: arithmetic over measured figures. Pure.

A part costs something for each record (or insert), of which time and partitions make so many, and something for what is
in them:

    stage       us a second and partition + us a record + us a message or reading; the first is from the whole platform,
                the others from the figures at 1,000 and at 50 rows a record, which are of a full queue
    kafka       us a second + us a record + us a megabyte written
    sink        us a second and partition + us a reading
    clickhouse  us a second and partition + us a row inserted, and for each time that it is merged
    mosquitto, bridge  us a message

How many rows a record gets follows from the rate: each bridge closes one for each partition after LINGER_S, or at ROWS.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

LINGER_S: Final = 0.1
ROWS: Final = 1_000
BUSY: Final = 0.6
"""Share of a core that is planned for at the peak; the rest is for catching up and for noise."""
CONNECTIONS: Final = 100_000
"""MQTT connections of one broker, by sockets and memory of TLS. An assumption, not a measurement."""
MQTT_BYTES: Final = 60
"""Headers of MQTT, TLS and TCP of a message."""
BROKER_BYTES_PER_S: Final = 100e6
"""Written by one Kafka broker, copies included: disks and network of ordinary machines. An assumption."""
MERGES: Final = 6
WINDOW_S: Final = 60
ASSUMED: Final = (
    f"cores are {BUSY:.0%} busy at the peak",
    f"{CONNECTIONS:,} TLS connections a mosquitto, which works on one core; an MQTT cluster costs what mosquitto does",
    f"{MQTT_BYTES} bytes of MQTT, TLS and TCP headers a message",
    f"{BROKER_BYTES_PER_S / 1e6:.0f} MB/s written by a Kafka broker",
    f"ClickHouse merges a row {MERGES} times; a window's row, one a series and {WINDOW_S} s, costs the same",
    "each copy costs Kafka and ClickHouse as much as the first",
    f"bridges close a record after {LINGER_S * 1000:.0f} ms or at {ROWS:,} messages",
    "payloads are compressed as well as the simulated fleet's, and are no smaller",
    "the table of windows is left out of the disks: it has a row for each series and minute",
    "queries, HTTP and snapshots come on top",
)
"""Not measured; printed with every answer."""
_DAY_S: Final = 86_400
_STAGES: Final = {"access": False, "aggregate": True, "anomaly": True, "presence": True}
"""Stage → whether its figure is of a reading rather than of a message."""
_MOST_PARTITIONS: Final = 4_096
_PAIRS: Final = 16
_FEW_ROWS: Final = 50
_MANY_PARTITIONS: Final = 128


@dataclass(frozen=True, slots=True)
class Fleet:
    """`rate`: messages a second of one device on average; `peak`: the busiest minute over it; `payload` in bytes."""

    devices: int
    rate: float
    payload: int
    readings: float = 2.0
    peak: float = 2.0

    @property
    def messages_per_s(self) -> float:
        return self.devices * self.rate


@dataclass(frozen=True, slots=True)
class Keep:
    """How long, in how many copies."""

    kafka_days: int = 7
    table_days: int = 400
    copies: int = 3


@dataclass(frozen=True, slots=True)
class Part:
    """`cores` at the peak at BUSY of each; `instances` at least; `why` what sets the number."""

    name: str
    instances: int
    cores: float
    why: str


@dataclass(frozen=True, slots=True)
class Size:
    """The answer. `rows`: messages a Kafka record at the average rate. Network in bytes a second at the peak, disks in
    bytes. `limits`: what is met first, and what to do."""

    partitions: int
    rows: float
    parts: tuple[Part, ...]
    kafka_disk: float
    table_disk: float
    network: Mapping[str, float] = field(default_factory=dict)
    limits: tuple[str, ...] = ()

    @property
    def cores(self) -> float:
        return sum(part.cores for part in self.parts)


def size(fleet: Fleet, keep: Keep, figures: Mapping[str, float]) -> Size:
    """Raises KeyError that names a figure that is missing."""
    peak = fleet.messages_per_s * fleet.peak
    brokers = _brokers(fleet, figures["mosquitto_us_per_message"])
    bridge = _bridges(fleet, brokers.instances, figures["bridge_qos1_us"])
    partitions, rows = _partitions(fleet, bridge.instances, figures)
    stream_bytes = _stream_bytes(fleet, figures)
    parts = (
        brokers,
        bridge,
        *_stages(fleet, partitions, rows, figures),
        *_engines(fleet, keep, (partitions, rows, stream_bytes), figures),
    )
    per_day = fleet.messages_per_s * _DAY_S
    table_bytes = fleet.readings * figures["table_bytes_per_reading"]
    network = {
        "devices to brokers": peak * (fleet.payload + MQTT_BYTES),
        "into Kafka": peak * stream_bytes,
        "between Kafka's": peak * stream_bytes * (keep.copies - 1),
    }
    kafka_disk = per_day * stream_bytes * keep.kafka_days * keep.copies
    table_disk = per_day * table_bytes * keep.table_days * keep.copies
    limits = tuple(_limits(brokers.instances, partitions, rows))
    return Size(partitions, rows, parts, kafka_disk, table_disk, network, limits)


def _brokers(fleet: Fleet, cost_us: float) -> Part:
    """mosquitto works on one core."""
    cores = _cores(fleet.messages_per_s * fleet.peak, cost_us)
    by_connections = fleet.devices / CONNECTIONS
    why = "rate: one core each" if cores > by_connections else "connections"
    return Part("mosquitto", max(1, math.ceil(max(cores, by_connections))), cores, why)


def _bridges(fleet: Fleet, brokers: int, cost_us: float) -> Part:
    """One for each broker; of many brokers as few as the rate allows, for each cuts records of its own."""
    cores = _cores(fleet.messages_per_s * fleet.peak, cost_us)
    if brokers <= _PAIRS:
        return Part("bridge", brokers, cores, "one for each mosquitto")
    return Part("bridge", max(2, math.ceil(cores)), cores, "rate: they share a cluster's messages")


def _stages(fleet: Fleet, partitions: int, rows: float, figures: Mapping[str, float]) -> Iterator[Part]:
    for name, of_readings in _STAGES.items():
        cores = _stage_cores(name, fleet, partitions, rows, figures)
        cost = cores * BUSY * 1e6 / _rate(fleet, of_readings)
        yield Part(name, max(1, math.ceil(cores)), cores, f"{cost:.1f} us a {'reading' if of_readings else 'message'}")


def _engines(
    fleet: Fleet, keep: Keep, stream: tuple[int, float, float], figures: Mapping[str, float]
) -> Iterator[Part]:
    """`stream`: partitions, messages a record, and bytes that a message puts into all topics, one copy."""
    partitions, rows, stream_bytes = stream
    readings, messages = _rate(fleet, True), _rate(fleet, False)
    sink = _cores(partitions, figures["sink_us_per_partition_s"]) + _cores(readings, figures["sink_us_per_reading"])
    yield Part("sink", max(1, math.ceil(sink)), sink, f"{readings:,.0f} rows/s")
    records = messages / rows
    of_bytes = _cores(messages * stream_bytes / 1e6, figures["kafka_us_per_mb"])
    of_records = _cores(records, figures["kafka_us_per_record"]) + _cores(1, figures["kafka_us_per_s"])
    kafka = (of_records + of_bytes) * keep.copies
    written = messages * stream_bytes * keep.copies
    brokers = max(keep.copies, math.ceil(written / BROKER_BYTES_PER_S))
    yield Part("kafka", brokers, kafka, f"{records:,.0f} records/s, {written / 1e6:,.1f} MB/s")
    rows = readings * (1 + _windows(fleet))
    merged = figures["clickhouse_us_per_row"] + MERGES * figures["clickhouse_us_per_merged_row"]
    by_partition = _cores(partitions, figures["clickhouse_us_per_partition_s"])
    clickhouse = (by_partition + _cores(rows, merged)) * keep.copies
    yield Part("clickhouse", keep.copies, clickhouse, "inserts and merges; queries come on top")


def _windows(fleet: Fleet) -> float:
    """Rows of windows a reading: one a series and WINDOW_S, of as many readings as a device sends messages."""
    return min(1.0, 1 / (WINDOW_S * fleet.rate))


def _limits(pairs: int, partitions: int, rows: float) -> Iterator[str]:
    if pairs > _PAIRS:
        yield f"{pairs} brokers: an MQTT cluster whose bridges share a subscription (deploy/compose/emqx.yml)"
    if partitions > _MANY_PARTITIONS:
        yield f"{partitions} partitions, each with inserts of its own into every table: several platforms, by region"
    if rows < _FEW_ROWS and partitions > 4:
        yield f"{rows:.0f} messages a record: fewer bridges or a longer MILLRACE_LINGER_MS make all behind cheaper"


def _rate(fleet: Fleet, of_readings: bool) -> float:
    """Messages or readings a second at the peak."""
    return fleet.messages_per_s * fleet.peak * (fleet.readings if of_readings else 1.0)


def _stream_bytes(fleet: Fleet, figures: Mapping[str, float]) -> float:
    """What one message puts into all telemetry topics, one copy. A larger payload is squeezed as well as ours was."""
    squeezed = min(1.0, figures["raw_bytes_per_message"] / figures["raw_value_bytes_per_message"])
    raw = figures["raw_bytes_per_message"] + squeezed * max(0.0, fleet.payload - figures["payload_bytes"])
    of_reading = figures["readings_bytes_per_reading"] + figures["derived_bytes_per_reading"]
    return raw + fleet.readings * of_reading


def _cores(per_s: float, cost_us: float) -> float:
    return per_s * cost_us / 1e6 / BUSY


def _record_and_row_us(stage: str, figures: Mapping[str, float]) -> tuple[float, float]:
    """(microseconds a record, microseconds a row) out of a full queue, where a stage takes many records at once."""
    name = "access_mixed" if stage == "access" else stage
    many, few = figures[f"{name}_us"], figures[f"{name}_50_us"]
    record = max(0.0, (few - many) / (1 / 50 - 1 / ROWS))
    return record, max(0.0, many - record / ROWS)


def _waking_us(stage: str, figures: Mapping[str, float]) -> float:
    """Microseconds a second and partition: what records that come one by one cost more than those of a full queue, and
    ticks and snapshots. Of the whole platform at a steady rate."""
    record, row = _record_and_row_us(stage, figures)
    rows = figures["footprint_messages_per_s"] * (figures["readings_per_message"] if _STAGES[stage] else 1.0)
    rest = figures[f"footprint_{stage}_cores"] * 1e6 - rows * row - figures["footprint_records_per_s"] * record
    return max(0.0, rest / figures["footprint_partitions"])


def _stage_cores(stage: str, fleet: Fleet, partitions: int, rows: float, figures: Mapping[str, float]) -> float:
    """`rows`: messages a record, of which each holds the fleet's readings."""
    record, row = _record_and_row_us(stage, figures)
    of_readings = _STAGES[stage]
    cost = row + record / (rows * (fleet.readings if of_readings else 1.0))
    return _cores(_rate(fleet, of_readings), cost) + _cores(partitions, _waking_us(stage, figures))


def _partitions(fleet: Fleet, pairs: int, figures: Mapping[str, float]) -> tuple[int, float]:
    """(partitions, messages a record): enough that no stage needs more than a core for one of them. More partitions
    make smaller records, which cost more, so it is tried from few to many."""
    average = fleet.messages_per_s
    count = 4 if average < 20_000 else 12
    while True:
        rows = min(ROWS, max(1.0, average / pairs / count * LINGER_S))
        needed = max(_stage_cores(stage, fleet, count, rows, figures) for stage in _STAGES)
        if needed <= count or count >= _MOST_PARTITIONS:
            return count, rows
        count += 4 if count < 12 else 12
