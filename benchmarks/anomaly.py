"""CPU µs a reading of the anomaly stage, everything included: Faust, Kafka's clients, Arrow in and out, snapshots.

Real Kafka, the real service, the settings that come with Millrace: the residual detector, stuck value and silence on
every series. After a portion to get warm, five more are written at once, each when the one before is answered; the
figure is the median of the CPU time that the process took for each. Two metrics a device, a reading a minute; a tick
after every ten records; snapshots about every 100,000 readings. The rival is river's half-space trees, a reading at a
time and without anything around them, where river is installed.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from confluent_kafka import Consumer, TopicPartition

from benchmarks.anomaly_residual import rival_us
from benchmarks.figures import Figure, cpu_of_s
from runtime.kafka import topics
from runtime.kafka.clients import admin, consumer, producer
from runtime.settings import KafkaSettings
from schemas import ipc, readings
from schemas import topics as names
from schemas.headers import Counts, Provenance, ReadingsHeaders
from schemas.vocabulary import Kind
from streams.anomaly.core import watch
from streams.anomaly.core.parts import Parts
from streams.anomaly.core.plan import Plan
from streams.anomaly.detectors import default
from tests.servers import KafkaServer

PARTITIONS = 4
DEVICES = 2_000
METRICS = ("temperature", "humidity")
RUNS = 5
SIZES = {1_000: 100_000, 250: 60_000, 50: 20_000}
"""Rows a record -> readings of a portion."""
ONE_SERIES_READINGS = 40_000
SERIES_FOR_STATE = 100_000
TICK_EVERY = 10
NOW_MS = 1_790_000_000_000
_DEADLINE_S = 300.0
_MS = pa.timestamp("ms", "UTC")


class Speech:
    """What devices say, record after record: all of a partition's in turn, a minute after the turn before."""

    def __init__(self, devices: int, partitions: int) -> None:
        self._random = np.random.default_rng(1)
        own = [np.arange(p, devices, partitions) for p in range(partitions)]
        self._series = [np.stack([np.repeat(d, len(METRICS)), np.tile(np.arange(len(METRICS)), len(d))]) for d in own]
        self._at = [0] * partitions

    def record(self, partition: int, rows: int) -> tuple[int, bytes]:
        """(stream time, value of a data record of so many rows)."""
        series, at = self._series[partition], self._at[partition]
        self._at[partition] += rows
        place = (at + np.arange(rows)) % series.shape[1]
        time_ms = NOW_MS + (at + np.arange(rows)) // series.shape[1] * 60_000
        device, metric = series[:, place]
        value = np.round(20 + device % 7 + 30 * metric + self._random.normal(size=rows), 2)
        return int(time_ms[-1]), ipc.encode(batch(device, metric, time_ms, value))

    def one_series(self, partition: int, rows: int) -> tuple[int, bytes]:
        at = self._at[partition]
        self._at[partition] += rows
        time_ms = NOW_MS + (at + np.arange(rows)) * 1000
        where = np.full(rows, partition), np.zeros(rows, np.int64)
        return int(time_ms[-1]), ipc.encode(batch(*where, time_ms, np.round(self._random.normal(20, 1, rows), 2)))


def batch(device: Any, metric: Any, time_ms: Any, value: Any) -> pa.RecordBatch:
    """A batch of telemetry.readings; its dictionary holds the devices in it, as access would write it."""
    n = len(device)
    known, codes = np.unique(device, return_inverse=True)
    words = pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array([f"device-{d}" for d in known]))
    columns = {
        "verdict": pa.array(np.zeros(n, np.uint8)),
        "device": words,
        "publisher": words,
        "channel": pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array(["climate"])),
        "metric": pa.DictionaryArray.from_arrays(pa.array(metric.astype(np.int32)), pa.array(METRICS)),
        "time": pa.array(time_ms).cast(_MS),
        "received_at": pa.array(time_ms + 200).cast(_MS),
        "value": pa.array(value),
        "quality": pa.array(np.zeros(n, np.uint8)),
        "raw_row": pa.array(np.arange(n, dtype=np.int32) // len(METRICS)),
        "reading_index": pa.array(np.arange(n, dtype=np.int32) % len(METRICS)),
    }
    made = [columns.get(f.name, pa.nulls(n, f.type)) for f in readings.SCHEMA]
    return pa.RecordBatch.from_arrays(made, schema=readings.SCHEMA)


class Bed:
    """A broker and the topics of one run."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings

    def renew(self) -> None:
        """Topics re-created."""
        found = admin(self.settings)
        for topic in (names.RAW, names.READINGS, names.ANOMALIES, names.INCIDENTS, names.state_topic("anomaly")):
            if topic in found.list_topics(timeout=10).topics:
                found.delete_topics([topic])[topic].result(20)
        time.sleep(1)
        topics.ensure(self.settings, topics.plans(PARTITIONS, 1), 1)
        self._out = producer(self.settings, {"queue.buffering.max.kbytes": 1 << 20})
        self._src = [0] * PARTITIONS
        self.ticks = [0] * PARTITIONS

    def write(self, records: list[tuple[int, bytes]], size: int) -> None:
        """Records of a portion to the partitions in turn, ticks between them and one at the end."""
        for number, (time_ms, value) in enumerate(records):
            partition = number % PARTITIONS
            counts = Counts(size, size, readings=size)
            self._put(partition, ReadingsHeaders(Kind.DATA, time_ms, counts), value)
            if number // PARTITIONS % TICK_EVERY == TICK_EVERY - 1 or number >= len(records) - PARTITIONS:
                self._put(partition, ReadingsHeaders(Kind.TICK, time_ms), b"")
                self.ticks[partition] += 1
        assert self._out.flush(60) == 0

    def _put(self, partition: int, headers: ReadingsHeaders, value: bytes) -> None:
        src = self._src[partition]
        self._src[partition] += 1
        stamped = [*headers.encode(), *Provenance(0, src, src - 1).encode()]
        self._out.produce(names.READINGS, value, partition=partition, headers=stamped)

    def answered(self, reader: Consumer) -> bool:
        """Whether each tick has its record of telemetry.incidents."""
        parts = (TopicPartition(names.INCIDENTS, p) for p in range(PARTITIONS))
        ends = [reader.get_watermark_offsets(part, timeout=10)[1] for part in parts]
        return all(end >= ticks for end, ticks in zip(ends, self.ticks, strict=True))


@contextmanager
def _service(settings: KafkaSettings, folder: Path) -> Iterator[int]:
    environment = {
        "MILLRACE_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "MILLRACE_SNAPSHOT_INTERVAL_S": "0.6",
        "MILLRACE_LOG_LEVEL": "error",
    }
    with (folder / "anomaly.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streams.anomaly"], env=os.environ | environment, stdout=log, stderr=log
        )
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def measure(bed: Bed, folder: Path, size: int, count: int, one_series: bool = False) -> float:
    """Median CPU µs a reading."""
    bed.renew()
    speech = Speech(DEVICES, PARTITIONS)
    say = speech.one_series if one_series else speech.record
    reader = consumer(bed.settings, "bench")
    costs = []
    with _service(bed.settings, folder) as pid:
        for _ in range(1 + RUNS):
            records = [say(n % PARTITIONS, size) for n in range(count // size)]
            begin = cpu_of_s(pid)
            bed.write(records, size)
            deadline = time.monotonic() + _DEADLINE_S
            while not bed.answered(reader):
                assert time.monotonic() < deadline, (folder / "anomaly.log").read_text()
                time.sleep(0.02)
            costs.append((cpu_of_s(pid) - begin) / count * 1e6)
    reader.close()
    return statistics.median(costs[1:])


def state_bytes() -> float:
    """Bytes of state a series, all included, with a hundred thousand of them."""
    parts = Parts(Plan(default()))
    devices = np.arange(SERIES_FOR_STATE // len(METRICS))
    for some in np.array_split(devices, 20):
        device, metric = np.repeat(some, len(METRICS)), np.tile(np.arange(len(METRICS)), len(some))
        watch.readings(parts, batch(device, metric, np.full(len(device), NOW_MS), np.ones(len(device))))
    return parts.sizes()["bytes"] / parts.table.size


@contextmanager
def _bed() -> Iterator[tuple[Bed, Path]]:
    with tempfile.TemporaryDirectory() as name:
        server = KafkaServer(Path(name) / "kafka")
        server.engine.folder.parent.mkdir(parents=True, exist_ok=True)
        server.start()
        try:
            yield Bed(KafkaSettings(kafka_bootstrap=server.bootstrap)), Path(name)
        finally:
            server.kill()


def figures() -> Iterator[Figure]:
    """anomaly_us at 1,000 rows a record, anomaly_250_us, anomaly_50_us, anomaly_one_series_us, anomaly_series_bytes."""
    rival = rival_us()
    against = ("river half-space trees", rival) if rival is not None else ("", None)
    with _bed() as (bed, folder):
        for size, count in SIZES.items():
            name = "anomaly_us" if size == 1_000 else f"anomaly_{size}_us"
            yield Figure(name, measure(bed, folder, size, count), "us/reading", *against)
        cost = measure(bed, folder, 1_000, ONE_SERIES_READINGS, one_series=True)
        yield Figure("anomaly_one_series_us", cost, "us/reading", *against)
    yield Figure("anomaly_series_bytes", state_bytes(), "bytes/series", "at most", 1024.0)


if __name__ == "__main__":
    for figure in figures():
        print(orjson.dumps(figure.line()).decode(), flush=True)
