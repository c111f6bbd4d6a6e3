"""CPU µs a reading of a stage behind access, everything included: Faust, Kafka's clients, Arrow in and out, snapshots.

Real Kafka, the real service, records of telemetry.readings as access writes them: messages of two metrics from devices
of that partition, and a tick for each partition after every TICK_EVERY records of it, so that stream time moves. After
portions to get warm, five more are written at once, each when the one before is answered; the figure is the median of
the CPU time that the process took for each.
"""

import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, TopicPartition

from benchmarks.figures import cpu_of_s
from runtime.kafka import topics
from runtime.kafka.clients import admin, consumer, producer
from runtime.settings import KafkaSettings
from schemas import ipc, readings
from schemas import topics as names
from schemas.headers import Counts, Provenance, ReadingsHeaders, Version, raw_control
from schemas.vocabulary import Kind
from tests.servers import KafkaServer

PARTITIONS = 4
DEVICES = 2_000
METRICS = ("temperature", "humidity")
WARM, RUNS = 2, 5
SIZES = {1_000: 400_000, 250: 80_000, 50: 20_000}
"""Rows a record -> readings of a portion."""
TICK_EVERY = 10
NOW_MS = 1_790_000_000_000
_DEADLINE_S = 120.0


def batch(partition: int, rows: int, r: random.Random, seqs: dict[str, Iterator[int]], now_ms: int) -> Any:
    """Messages of two readings each (schemas.readings.SCHEMA)."""
    messages = rows // len(METRICS)
    devices = [f"device-{PARTITIONS * r.randrange(DEVICES // PARTITIONS) + partition}" for _ in range(messages)]
    each = np.repeat(np.arange(messages), len(METRICS))
    encoded = pa.array(devices).dictionary_encode()
    of_rows = pa.DictionaryArray.from_arrays(encoded.indices.take(pa.array(each)), encoded.dictionary)
    seq = np.array([next(seqs.setdefault(device, itertools.count())) for device in devices])
    total = messages * len(METRICS)
    columns = {
        "verdict": np.zeros(total, np.uint8),
        "device": of_rows,
        "publisher": of_rows,
        "channel": pa.array(["climate"] * total).dictionary_encode(),
        "metric": pa.array(list(METRICS) * messages).dictionary_encode(),
        "time": np.full(total, now_ms),
        "value": np.round([r.gauss(20, 5) for _ in range(total)], 2),
        "quality": np.zeros(total, np.uint8),
        "received_at": np.full(total, now_ms),
        "boot": np.ones(total, np.int64),
        "seq": seq[each],
        "raw_row": each.astype(np.int32),
        "reading_index": np.tile(np.arange(len(METRICS), dtype=np.int32), messages),
    }
    made = [_column(columns.get(f.name), f.type, total) for f in readings.SCHEMA]
    return pa.RecordBatch.from_arrays(made, schema=readings.SCHEMA)


def _column(values: Any, kind: Any, rows: int) -> Any:
    if values is None:
        return pa.nulls(rows, kind)
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


@dataclass
class Bed:
    """A broker, and the topics of one run of a stage.

    `controls` (key, value) stand before the first readings of every partition. Stream time moves `tick_ms` a tick.
    """

    settings: KafkaSettings
    stage: str
    controls: list[tuple[str, bytes]] = field(default_factory=list)
    tick_ms: int = 1_000
    out: Any = None
    src: list[int] = field(default_factory=list)
    seqs: dict[str, Iterator[int]] = field(default_factory=dict)
    now_ms: int = NOW_MS

    def renew(self) -> None:
        """Topics re-created."""
        found = admin(self.settings)
        mine = (names.RAW, names.READINGS, *names.STAGES[self.stage], names.state_topic(self.stage), names.CONTROL)
        for topic in mine:
            if topic in found.list_topics(timeout=10).topics:
                found.delete_topics([topic])[topic].result(20)
        time.sleep(1)
        topics.ensure(self.settings, topics.plans(PARTITIONS, 1), 1)
        self.out = producer(self.settings, {"queue.buffering.max.kbytes": 1 << 20})
        self.src = [0] * PARTITIONS
        for partition in range(PARTITIONS):
            for number, (key, value) in enumerate(self.controls):
                mark = tuple(h for h in raw_control(Version(0, number), key) if h[0] in ("version", "key"))
                self._put(partition, ReadingsHeaders(Kind.CONTROL, 0, control=mark), value)

    def made(self, size: int, total: int, r: random.Random) -> list[tuple[int, int, int, bytes]]:
        """A portion of readings in records of `size` rows, to the partitions in turn, and ticks, of which the last ones
        end it: (partition, stream time, rows, value) of each record."""
        found = []
        for number in range(total // size):
            partition = number % PARTITIONS
            value = ipc.encode(batch(partition, size, r, self.seqs, self.now_ms))
            found.append((partition, self.now_ms, size, value))
            if number % (PARTITIONS * TICK_EVERY) == PARTITIONS * TICK_EVERY - 1 or number == total // size - 1:
                self.now_ms += self.tick_ms
                found += [(partition, self.now_ms, 0, b"") for partition in range(PARTITIONS)]
        return found

    def write(self, records: list[tuple[int, int, int, bytes]]) -> None:
        """All at once."""
        for partition, time_ms, rows, value in records:
            counts = Counts(received=rows // 2, accepted=rows // 2, readings=rows)
            self._put(partition, ReadingsHeaders(Kind.DATA if rows else Kind.TICK, time_ms, counts), value)
        assert self.out.flush(60) == 0

    def _put(self, partition: int, headers: ReadingsHeaders, value: bytes) -> None:
        src = self.src[partition]
        found = headers.encode() + Provenance(0, src, src - 1).encode()
        self.out.produce(names.READINGS, value, partition=partition, headers=found)
        self.src[partition] += 1

    def answered(self, reader: Consumer) -> bool:
        """Whether the last tick of each partition has its record in the stage's first topic."""
        topic = names.STAGES[self.stage][0]
        for partition in range(PARTITIONS):
            _, high = reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            if high == 0:
                return False
            reader.assign([TopicPartition(topic, partition, high - 1)])
            last = reader.poll(5)
            if last is None or Provenance.parse(dict(last.headers() or ())).src < self.src[partition] - 1:
                return False
        return True


@contextmanager
def service(settings: KafkaSettings, stage: str, folder: Path, snapshot_s: float) -> Iterator[int]:
    """The stage as a process of its own; its process id."""
    environment = {
        "MILLRACE_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "MILLRACE_SNAPSHOT_INTERVAL_S": str(snapshot_s),
        "MILLRACE_LOG_LEVEL": "error",
        "MILLRACE_HTTP_BIND": "127.0.0.1:0",
    }
    with (folder / f"{stage}.log").open("w") as log:
        command = [sys.executable, "-m", f"streams.{stage}"]
        process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def measure(bed: Bed, folder: Path, size: int, total: int, snapshot_s: float = 1.0) -> float:
    """Median CPU µs a reading."""
    return measure_both(bed, folder, size, total, snapshot_s)[0]


def measure_both(bed: Bed, folder: Path, size: int, total: int, snapshot_s: float = 1.0) -> tuple[float, float]:
    """(median CPU µs a reading, median of readings a second by the clock, of which Kafka has its share)."""
    bed.renew()
    r = random.Random(size)
    reader = consumer(bed.settings, "bench")
    costs, rates = [], []
    with service(bed.settings, bed.stage, folder, snapshot_s) as pid:
        for _ in range(WARM + RUNS):
            records = bed.made(size, total, r)
            begin, began_s = cpu_of_s(pid), time.monotonic()
            bed.write(records)
            wait(bed, reader, folder)
            costs.append((cpu_of_s(pid) - begin) / total * 1e6)
            rates.append(total / (time.monotonic() - began_s))
    reader.close()
    return statistics.median(costs[WARM:]), statistics.median(rates[WARM:])


def wait(bed: Bed, reader: Consumer, folder: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not bed.answered(reader):
        assert time.monotonic() < deadline, (folder / f"{bed.stage}.log").read_text()
        time.sleep(0.02)


@contextmanager
def bed_of(stage: str) -> Iterator[tuple[Bed, Path]]:
    """A broker of its own."""
    with tempfile.TemporaryDirectory() as name:
        server = KafkaServer(Path(name) / "kafka")
        server.engine.folder.parent.mkdir(parents=True, exist_ok=True)
        server.start()
        try:
            yield Bed(KafkaSettings(kafka_bootstrap=server.bootstrap), stage), Path(name)
        finally:
            server.kill()
