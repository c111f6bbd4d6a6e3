"""The sink's rows a second against bare insert_arrow of the same rows into the same tables, in the same run.

Kafka and ClickHouse are real. The log is written first; the sink then reads it from its beginning. The rival has its
rows ready in memory as Arrow tables of as many rows as the sink's ranges and does nothing but insert_arrow.
"""

import contextlib
import logging
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.figures import Figure
from runtime.clickhouse.client import ClickHouse
from runtime.kafka import clients, topics
from runtime.stage.provenance import Highest
from schemas import headers, ipc, raw, readings
from schemas import topics as names
from schemas.headers import Counts, Provenance, ReadingsHeaders
from schemas.skips import Skips
from schemas.vocabulary import Kind
from sinks.adapters.tables import Tables
from sinks.core.flow import Range
from sinks.core.logs import LOGS, Log
from sinks.core.records import Arrival
from sinks.engine import Engine
from sinks.metrics import DelayHistogram
from sinks.migrate import migrate
from sinks.orders import Orders
from sinks.settings import SinkSettings
from sinks.writer import Writer
from tests.servers import ClickHouseServer, KafkaServer
from tests.support import derived

PARTITIONS = 2
RECORDS = 300
MESSAGES = 1_000
RUNS = 3
DERIVED_RECORDS, DERIVED_RUNS = 20, 7
_DEADLINE_S = 180.0


def batch(number: int, now_ms: int) -> pa.RecordBatch:
    """Readings of MESSAGES flat messages of two metrics, from 500 devices."""
    n = 2 * MESSAGES
    rng = np.random.default_rng(number)
    row = np.repeat(np.arange(MESSAGES, dtype=np.int32), 2)
    devices = pa.array([f"sensor-{i}" for i in range(500)])

    def names(codes: Any, of: pa.Array) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), of)

    device = names(row % 500, devices)
    stamps = pa.array(now_ms + row.astype(np.int64)).cast(pa.timestamp("ms", "UTC"))
    given = {
        "verdict": pa.array(np.zeros(n, np.uint8)),
        "device": device,
        "publisher": device,
        "channel": names(np.zeros(n), pa.array(["climate"])),
        "metric": names(np.arange(n) % 2, pa.array(["temperature", "humidity"])),
        "time": stamps,
        "value": pa.array(np.round(20 + rng.normal(size=n), 2)),
        "quality": pa.array(np.zeros(n, np.uint8)),
        "received_at": stamps,
        "boot": pa.array(np.ones(n, np.int64)),
        "seq": pa.array(number * MESSAGES + row.astype(np.int64)),
        "raw_row": pa.array(row),
        "reading_index": pa.array((np.arange(n) % 2).astype(np.int32)),
    }
    columns = [given.get(f.name, pa.nulls(n, f.type)) for f in readings.SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=readings.SCHEMA)


def _write_log(settings: SinkSettings) -> None:
    producer = clients.producer(settings, {"linger.ms": 5})
    now_ms = int(time.time() * 1000)
    empty = ipc.encode(pa.RecordBatch.from_pylist([], schema=raw.SCHEMA))
    counts = Counts(received=MESSAGES, accepted=MESSAGES, readings=2 * MESSAGES)
    for number in range(RECORDS + 1):
        kind = Kind.DATA if number < RECORDS else Kind.TICK
        value = ipc.encode(batch(number, now_ms)) if kind is Kind.DATA else b""
        given = ReadingsHeaders(kind, now_ms, counts).encode() + Provenance(0, number, number - 1).encode()
        mark = headers.raw_data(MESSAGES) if kind is Kind.DATA else headers.raw_tick(now_ms)
        for partition in range(PARTITIONS):
            producer.produce(raw.NAME, partition=partition, headers=mark, value=empty)
            producer.produce(readings.NAME, partition=partition, headers=given, value=value)
            producer.poll(0)
    assert producer.flush(60) == 0


class _Recorder(Tables):
    """Keeps what is inserted, so that the rival inserts the very same."""

    def __init__(self, settings: SinkSettings) -> None:
        super().__init__(settings)
        self.seen: list[tuple[str, pa.Table]] = []
        self.lock = threading.Lock()
        self.began = 0.0

    def insert(self, insert: Any, check: bool) -> None:
        with self.lock:
            self.began = self.began or time.monotonic()
            self.seen.append((insert.table, insert.rows))
        super().insert(insert, check)


def _sink_s(settings: SinkSettings, tables: _Recorder, expected_rows: int) -> float:
    """Seconds from the sink's first insert (joining the consumer group comes before) until all can be queried."""
    facts = topics.facts(settings, *LOGS)
    writer = Writer(tables, {"readings": DelayHistogram("bench", "bench")}, settings.sink_writers)
    engine = Engine(settings, facts, tables, writer, Orders(Skips), lambda: None)
    db, began = ClickHouse(settings), time.monotonic()
    engine._thread.start()
    while db.rows("SELECT count() FROM ledger_facts WHERE kind = 'data'")[0][0] < RECORDS * PARTITIONS:
        assert time.monotonic() - began < _DEADLINE_S, engine.not_ready()
        time.sleep(0.02)
    took_s = time.monotonic() - tables.began
    assert db.rows("SELECT count() FROM readings")[0][0] == expected_rows
    engine._stop.set()
    engine._thread.join()
    writer.close()
    db.close()
    return took_s


def _bare_s(settings: SinkSettings, seen: list[tuple[str, pa.Table]]) -> float:
    db = ClickHouse(settings)
    began = time.monotonic()
    for table, rows in seen:
        if table == "readings":
            db.client.insert_arrow(table, rows, settings={"async_insert": 0})
    took_s = time.monotonic() - began
    db.close()
    return took_s


@contextlib.contextmanager
def _servers() -> Iterator[tuple[KafkaServer, ClickHouseServer]]:
    with tempfile.TemporaryDirectory() as folder:
        kafka, clickhouse = KafkaServer(Path(folder) / "k"), ClickHouseServer(Path(folder) / "c")
        for server in (kafka, clickhouse):
            server.engine.folder.parent.mkdir(parents=True, exist_ok=True)
            server.start()
        try:
            yield kafka, clickhouse
        finally:
            kafka.kill()
            clickhouse.kill()


def derived_us() -> dict[str, float]:
    """Topic -> CPU us a row of the sink alone, from records of 1,000 rows or so to the tables that are inserted. The
    least of DERIVED_RUNS."""
    return {topic: _derived_us(LOGS[topic]) for topic in names.DERIVED}


def _derived_us(log: Log) -> float:
    (module,) = (module for module in derived.TOPICS if log.topic == module.NAME)
    arrivals: list[Arrival] = []

    def send(topic: str, _partition: int, found: derived.Headers, value: bytes) -> None:
        arrivals.append(Arrival(len(arrivals), int(time.time() * 1000), found, value))

    stage = derived.Stages(send, 0)
    stage.expected.windows["open"] = 1 << 40
    for offset in range(DERIVED_RECORDS):
        rows: list[derived.Row] = []
        while len(rows) < MESSAGES:
            rows += stage.rows(module, 1_790_000_000_000, few=MESSAGES)
        stage.say(module, offset, Kind.TICK, 1_790_000_000_000, rows)
    costs = []
    for _ in range(DERIVED_RUNS):
        began = time.process_time()
        read = log.reader(0, log.topic)
        entries = tuple(read(arrival) for arrival in arrivals)
        rule = log.rule(SinkSettings().rule)
        part = Range(log.topic, 0, 0, 0, len(entries), rule, entries, Highest(), 0, False)
        log.plan(part)
        costs.append((time.process_time() - began) * 1e6 / sum(entry.rows - 1 for entry in entries))
    return min(costs)


def figures() -> list[Figure]:
    """sink_rows_per_s, with bare insert_arrow of the same rows in the same run; ratio is value over baseline; and
    sink_…_us of each derived topic."""
    logging.disable(logging.WARNING)
    rows = 2 * MESSAGES * RECORDS * PARTITIONS
    ours, bare = [], []
    with _servers() as (kafka, clickhouse):
        base = SinkSettings(kafka_bootstrap=kafka.bootstrap)
        topics.ensure(base, topics.plans(PARTITIONS, 1), 1)
        _write_log(base)
        for run in range(RUNS):
            ours.append(rows / _run(kafka, clickhouse, run, rows, bare))
    middle = RUNS // 2
    value, baseline = sorted(ours)[middle], sorted(bare)[middle]
    ratio = sorted(a / b for a, b in zip(ours, bare, strict=True))[middle]
    of_topics = [Figure(f"sink_{topic.split('.')[-1]}_us", us, "us/row") for topic, us in derived_us().items()]
    return [Figure("sink_rows_per_s", value, "rows/s", "bare insert_arrow", baseline, ratio), *of_topics]


def _run(kafka: KafkaServer, clickhouse: ClickHouseServer, run: int, rows: int, bare: list[float]) -> float:
    def settings(name: str) -> SinkSettings:
        return SinkSettings(
            kafka_bootstrap=kafka.bootstrap,
            clickhouse_url=clickhouse.url.rsplit("/", 1)[0] + f"/{name}{run}",
            clickhouse_password_file=clickhouse.password_file,
            sink_group=f"{name}{run}",
        )

    sink, rival = settings("sink"), settings("bare")
    migrate(sink)
    migrate(rival)
    tables = _Recorder(sink)
    took_s = _sink_s(sink, tables, rows)
    bare.append(rows / _bare_s(rival, tables.seen))
    for done in (sink, rival):
        db = ClickHouse(done)
        db.command(f"DROP DATABASE `{db.database}`")
        db.close()
    return took_s
