"""What messages, readings and Kafka records take of disks and of the engines' CPU: a fleet through the whole platform.

A small fleet pays for records and inserts, a large one for what is in them. So the engines are measured at a low and a
high rate, between which the number of records hardly changes, and their CPU is split:

    mosquitto  us a message
    kafka      us a second, whatever comes + us a record of raw, with the one of readings that follows + us a megabyte;
               written once and read by READERS. The second from PACE small records a second over many partitions, the
               third from what large records cost more than small ones, as fast as they go
    sink        us a second and partition (ranges are cut by time) + us a reading
    clickhouse  the same, but a row's is of inserts of 1,000, 10,000 and 100,000 readings into an engine of its own, and
                of merging them all once more: what the platform takes more at a high rate is lost in noise

A rate between the two checks the split: `footprint_…_cores` is what each service took there, and a test of `millrace
size` compares what it says with that.
"""

import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from confluent_kafka import TopicPartition

from benchmarks import sink as sink_bench
from benchmarks.e2e import DEVICES, run_fleet
from benchmarks.figures import Figure, cpu_of_s
from local.fleet.plan import Plan, Workload
from operations.sizing import MERGES
from runtime.clickhouse.client import ClickHouse
from runtime.kafka import topics as kafka_topics
from runtime.kafka.clients import consumer, producer
from runtime.settings import KafkaSettings
from schemas import topics
from sinks.migrate import migrate
from sinks.settings import SinkSettings
from tests.chaos.running import Running
from tests.servers import ClickHouseServer, KafkaServer

LOW, MIDDLE, HIGH = 500, 2_000, 8_000
SECONDS = 40
READERS = 3
"""Of raw there are two, of readings four."""
SMALL, LARGE = 4_000, 80_000
"""Bytes of a record."""
PACE = 500
INSERTS = {1_000: 80, 10_000: 40, 100_000: 8}
"""Rows of an insert -> how many of them."""
NOW_MS = 1_790_000_000_000
_PARTITIONS = 16
ENGINES = ("mosquitto", "kafka", "sink", "clickhouse")
SERVICES = (*ENGINES, "bridge", "access", "aggregate", "anomaly", "presence")
_PARTS = """
SELECT table, sum(bytes_on_disk), sum(rows) FROM system.parts
WHERE active AND database = 'millrace' GROUP BY table ORDER BY table"""
_RECORDS = "SELECT count(), uniqExact(raw_partition) FROM ledger_facts WHERE kind = 'data'"


@dataclass(frozen=True)
class Run:
    """Of one rate: per second `messages`, `readings` and `records` of raw, and CPU in us a second by service."""

    messages: float
    readings: float
    records: float
    partitions: int
    cpu: dict[str, float]


def figures() -> Iterable[Figure]:
    """The costs named above, bytes on the way (…_bytes_…), and `footprint_…_cores`."""
    with tempfile.TemporaryDirectory() as folder, Running(Path(folder) / "data") as running:
        run_fleet(running, MIDDLE, SECONDS)  # to get warm: Kafka compiles itself
        low, high, middle = (_run(running, rate) for rate in (LOW, HIGH, MIDDLE))
        sizes = list(_bytes(running))
        for name, value in _costs(low, high, _kafka(), _clickhouse(), _stream_mb_per_message(sizes)).items():
            yield Figure(name, value, "us")
        yield from sizes
        for name in SERVICES:
            yield Figure(f"footprint_{name}_cores", middle.cpu[name] / 1e6, "cores", "rate", MIDDLE, MIDDLE)
        yield Figure("footprint_partitions", middle.partitions, "partitions")
        yield Figure("footprint_messages_per_s", middle.messages, "messages/s")
        yield Figure("footprint_records_per_s", middle.records, "records/s")


def _run(running: Running, rate: int) -> Run:
    running.wait_quiet()
    before, spent = _counts(running), _cpu_s(running)
    run_fleet(running, rate, SECONDS)
    running.wait_quiet()
    after, cpu = _counts(running), _cpu_s(running)
    messages, readings, records = (b - a for a, b in zip(before[:3], after[:3], strict=True))
    return Run(
        messages / SECONDS,
        readings / SECONDS,
        records / SECONDS,
        after[3],
        {name: (cpu[name] - spent[name]) * 1e6 / SECONDS for name in cpu},
    )


def _counts(running: Running) -> tuple[int, int, int, int]:
    ledger = running.ledger()
    records, partitions = running.clickhouse().query(_RECORDS).result_rows[0]
    return ledger["messages"]["received"], ledger["readings"]["stored"], records, partitions


def _costs(
    low: Run, high: Run, kafka: dict[str, float], clickhouse: dict[str, float], mb_per_message: float
) -> dict[str, float]:
    grows = low.records * kafka["kafka_us_per_record"] + low.messages * mb_per_message * kafka["kafka_us_per_mb"]
    costs = {
        "mosquitto_us_per_message": high.cpu["mosquitto"] / high.messages,
        "kafka_us_per_s": max(0.0, low.cpu["kafka"] - grows),
        **kafka,
    }
    sink = (high.cpu["sink"] - low.cpu["sink"]) / (high.readings - low.readings)
    row = clickhouse["clickhouse_us_per_row"] + MERGES * clickhouse["clickhouse_us_per_merged_row"]
    for name, reading in (("sink", sink), ("clickhouse", row)):
        costs[f"{name}_us_per_partition_s"] = (low.cpu[name] - reading * low.readings) / low.partitions
    return costs | clickhouse | {"sink_us_per_reading": sink}


def _stream_mb_per_message(sizes: list[Figure]) -> float:
    """What a message of the fleet's puts into all topics of telemetry."""
    found = {figure.name: figure.value for figure in sizes}
    of_reading = found["readings_bytes_per_reading"] + found["derived_bytes_per_reading"]
    return (found["raw_bytes_per_message"] + found["readings_per_message"] * of_reading) / 1e6


def _kafka() -> dict[str, float]:
    """A broker's CPU for records and for what is in them."""
    with tempfile.TemporaryDirectory() as folder:
        server = KafkaServer(Path(folder) / "kafka")
        server.start()
        assert server.process is not None
        settings = KafkaSettings(kafka_bootstrap=server.bootstrap)
        try:
            kafka_topics.ensure(settings, kafka_topics.plans(_PARTITIONS, 1), 1)
            time.sleep(3)  # until every partition has its leader
            _through(server, settings, SMALL, 3_000)  # to get warm
            small = _through(server, settings, SMALL, 6_000)
            large = _through(server, settings, LARGE, 2_000)
            paced = _through(server, settings, SMALL, 10 * PACE, PACE)
        finally:
            server.kill()
    by_mb = (large - small) / (LARGE - SMALL) * 1e6
    return {"kafka_us_per_record": 2 * (paced - by_mb * SMALL / 1e6), "kafka_us_per_mb": by_mb}


def _through(server: KafkaServer, settings: KafkaSettings, size: int, count: int, pace: int = 0) -> float:
    """CPU us of the broker for a record of so many bytes, written once and read by READERS; `pace` records a second."""
    assert server.process is not None
    value, out = os.urandom(size), producer(settings)
    readers = [consumer(settings, f"footprint-{n}") for n in range(READERS)]
    for reader in readers:
        ends = [reader.get_watermark_offsets(TopicPartition(topics.RAW, p), timeout=10)[1] for p in range(_PARTITIONS)]
        reader.assign([TopicPartition(topics.RAW, p, end) for p, end in enumerate(ends)])
    left, written, begin = [count] * READERS, 0, time.monotonic()
    spent = cpu_of_s(server.process.pid)
    while max(left) > 0:
        due = int((time.monotonic() - begin) * pace) if pace else written + 50
        for number in range(written, min(count, due)):
            out.produce(topics.RAW, value, partition=number % _PARTITIONS)
        written = max(written, min(count, due))
        out.poll(0)
        for n, reader in enumerate(readers):
            left[n] -= len(reader.consume(100, 0.001))
    used = cpu_of_s(server.process.pid) - spent
    for reader in readers:
        reader.close()
    return used / count * 1e6


def _clickhouse() -> dict[str, float]:
    """The engine's CPU for an insert into `readings` and for a row of it, by least squares of the relative error."""
    with tempfile.TemporaryDirectory() as folder:
        server = ClickHouseServer(Path(folder) / "c")
        server.start()
        settings = SinkSettings(clickhouse_url=server.url, clickhouse_password_file=server.password_file)
        db = ClickHouse(settings)
        try:
            migrate(settings)
            _insert(server, db, 1_000, 10)  # to get warm
            spent = {size: _insert(server, db, size, count) for size, count in INSERTS.items()}
            merged = _merge(server, db)
        finally:
            db.close()
            server.kill()
    shares = np.array([(1 / spent[size], size / spent[size]) for size in INSERTS])
    insert, row = np.linalg.lstsq(shares, np.ones(len(INSERTS)), rcond=None)[0]
    each = {f"clickhouse_{size}_us_per_row": us / size for size, us in spent.items()}
    costs = {"insert": float(insert), "row": float(row), "merged_row": merged}
    return {f"clickhouse_us_per_{name}": us for name, us in costs.items()} | each


def _insert(server: ClickHouseServer, db: ClickHouse, size: int, count: int) -> float:
    """CPU us of the engine for one of `count` inserts of `size` readings, until no merge is left."""
    assert server.process is not None
    table = pa.Table.from_batches(sink_bench.batch(n, NOW_MS) for n in range(max(1, size // 2_000))).slice(0, size)
    kept = {str(row[0]) for row in db.rows("DESCRIBE TABLE readings")}
    table = table.select([name for name in table.column_names if name in kept])
    spent = cpu_of_s(server.process.pid)
    for _ in range(count):
        db.client.insert_arrow("readings", table, settings={"async_insert": 0, "insert_deduplicate": 0})
    time.sleep(2)
    while db.rows("SELECT count() FROM system.merges")[0][0]:
        time.sleep(0.5)
    return (cpu_of_s(server.process.pid) - spent) / count * 1e6


def _merge(server: ClickHouseServer, db: ClickHouse) -> float:
    """The engine's CPU us for a row that is merged once more."""
    assert server.process is not None
    spent = cpu_of_s(server.process.pid)
    db.command("OPTIMIZE TABLE readings FINAL")
    return (cpu_of_s(server.process.pid) - spent) / float(db.rows("SELECT count() FROM readings")[0][0]) * 1e6


def _bytes(running: Running) -> Iterable[Figure]:
    ledger = running.ledger()
    messages, readings = ledger["messages"]["received"], ledger["readings"]["stored"]
    db = running.clickhouse()
    db.command("OPTIMIZE TABLE readings FINAL")
    rows = {table: int(size) for table, size, _count in db.query(_PARTS).result_rows}
    value_bytes = db.query("SELECT sum(bytes) FROM ledger_received").result_rows[0][0]
    kafka = running.data / "kafka" / "log"
    derived = sum(_log(kafka, topic) for topic in topics.DERIVED)
    yield Figure("raw_value_bytes_per_message", value_bytes / messages, "bytes")
    yield Figure("payload_bytes", _payload(), "bytes")
    yield Figure("raw_bytes_per_message", _log(kafka, topics.RAW) / messages, "bytes")
    yield Figure("readings_bytes_per_reading", _log(kafka, topics.READINGS) / readings, "bytes")
    yield Figure("derived_bytes_per_reading", derived / readings, "bytes")
    yield Figure("table_bytes_per_reading", rows["readings"] / readings, "bytes")
    yield Figure("readings_per_message", readings / ledger["messages"]["accepted"], "readings")


def _payload() -> float:
    """Mean bytes of the fleet's messages."""
    plan = Plan(Workload(DEVICES, MIDDLE, 2, 1, 1, 0))
    sizes = [len(message.publication.payload) for tick in plan.ticks() for message in tick.messages]
    return sum(sizes) / len(sizes)


def _cpu_s(running: Running) -> dict[str, float]:
    """CPU seconds so far of each service."""
    pids = {name: running.pid(name) for name in SERVICES}
    return {name: cpu_of_s(pid) for name, pid in pids.items() if pid is not None}


def _log(folder: Path, topic: str) -> int:
    """Bytes of a topic's log, indexes left out."""
    return sum(file.stat().st_size for file in folder.glob(f"{topic}-*/*.log"))
