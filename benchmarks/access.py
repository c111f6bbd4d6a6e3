"""CPU µs a message of the access stage, everything included: Faust, Kafka's clients, Arrow in and out, snapshots.

Real Kafka, the real service. After a portion to get warm, five more are written at once, each when the one before is
answered; the figure is the median of the CPU time that the process took for each. Snapshots are taken about every
100,000 messages, as at 10,000 messages a second. The rival is a plain Faust agent, a message at a time
(access_naive.py), in the same run.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import NewTopic

from benchmarks.figures import Figure, cpu_of_s
from runtime.kafka import topics
from runtime.kafka.clients import admin, consumer, producer
from runtime.settings import KafkaSettings
from schemas import headers, ipc, raw
from schemas import topics as names
from schemas.control import POLICY_KEY, Device, device_key
from schemas.headers import Version
from streams.access.policy import check, shipped
from tests.servers import KafkaServer

PARTITIONS = 4
DEVICES = 2_000
RUNS = 5
SIZES = {1_000: 100_000, 250: 60_000, 50: 20_000}
"""Rows a record -> messages of a portion."""
NAIVE_MESSAGES = 12_000
NOW_MS = 1_790_000_000_000
_DEADLINE_S = 300.0

Payload = Callable[[random.Random, str, int], bytes]


def flat(r: random.Random, device: str, seq: int) -> bytes:
    """Two metrics, and what names the message."""
    return b'{"temperature":%.2f,"humidity":%.1f,"boot":1,"seq":%d}' % (r.gauss(21, 3), r.gauss(45, 8), seq)


def mixed(r: random.Random, device: str, seq: int) -> bytes:
    """Shapes of a mixed fleet, gateways with children among them; one message in two hundred is broken."""
    if r.random() < 0.005:
        return r.choice((b'{"temperature":', b'{"a":01}', b"\xff\xfe", b'{"a":NaN}', b"[1,2]"))
    a, b, kind = r.gauss(20, 5), r.gauss(1000, 200), int(device.rpartition("-")[2]) % 8
    shapes: tuple[Callable[[], bytes], ...] = (
        lambda: flat(r, device, seq),
        lambda: b'{"ts":%d,"temperature":%.2f,"battery":%d}' % (NOW_MS + seq, a, a),
        lambda: b'{"rpm":%d,"current":%.3f,"state":"%s"}' % (b, a, r.choice((b"run", b"idle", b"fault"))),
        lambda: b'{"motor":{"rpm":%d,"bearing":{"x":%.4f,"y":%.4f}},"on":true}' % (b, a, a / 3),
        lambda: b'[{"ts":%d,"kwh":%.3f},{"ts":%d,"kwh":%.3f}]' % (NOW_MS, b, NOW_MS + 500, b + 0.25),
        lambda: b'{"ts":"2026-09-21T13:%02d:%02d.250Z","kwh":%.3f}' % (seq // 60 % 60, seq % 60, b),
        lambda: b'{"door":%s,"firmware":"1.%d.%d"}' % (r.choice((b"true", b"false")), seq % 9, seq % 5),
        lambda: (
            b'[{"device":"%s-a","temperature":%.2f},{"device":"%s-b","temperature":%.2f}]'
            % (device.encode(), a, device.encode(), a)
        ),
    )
    return shapes[kind]()


def hostile(r: random.Random, device: str, seq: int) -> bytes:
    """Every message brings a key that nobody ever saw."""
    return b'{"k%d":%.2f,"humidity":%.1f}' % (r.randrange(1 << 50), r.gauss(21, 3), r.gauss(45, 8))


def rows(make: Payload, partition: int, size: int, r: random.Random, seqs: dict[str, Iterator[int]]) -> Any:
    devices = [f"device-{PARTITIONS * r.randrange(DEVICES // PARTITIONS) + partition}" for _ in range(size)]
    columns: dict[str, Any] = {
        "device": devices,
        "topic": [f"d/{device}/telemetry/climate" for device in devices],
        "payload": [make(r, device, next(seqs.setdefault(device, itertools.count()))) for device in devices],
        "transport": [0] * size,
        "qos": [1] * size,
        "retain": [False] * size,
        "received_at": [NOW_MS] * size,
    }
    return pa.RecordBatch.from_arrays(
        [pa.array(columns.get(f.name, [None] * size), f.type) for f in raw.SCHEMA], schema=raw.SCHEMA
    )


@dataclass
class Bed:
    """A broker and the topics of one run."""

    settings: KafkaSettings
    out: Any = None

    def renew(self) -> int:
        """Topics re-created, policy and registry written. Returns how many records that are."""
        found = admin(self.settings)
        for topic in (names.RAW, names.READINGS, names.state_topic("access"), names.CONTROL):
            if topic in found.list_topics(timeout=10).topics:
                found.delete_topics([topic])[topic].result(20)
        time.sleep(1)
        topics.ensure(self.settings, topics.plans(PARTITIONS, 1), 1)
        self.out = producer(self.settings, {"queue.buffering.max.kbytes": 1 << 20})
        written = 0
        for partition in range(PARTITIONS):
            for key, value in self._controls(partition):
                mark = headers.raw_control(Version(0, written), key)
                self.out.produce(names.RAW, value, partition=partition, headers=mark)
                written += 1
        assert self.out.flush(60) == 0
        return written

    def write(self, values: list[bytes], size: int) -> None:
        """Records of a portion, all at once, to the partitions in turn."""
        for number, value in enumerate(values):
            self.out.produce(names.RAW, value, partition=number % PARTITIONS, headers=headers.raw_data(size))
        assert self.out.flush(60) == 0

    @staticmethod
    def _controls(partition: int) -> Iterator[tuple[str, bytes]]:
        text = shipped("default").replace("[telemetry/climate, event", "[telemetry/*, event")
        yield POLICY_KEY, check(text, "benchmark").encode()
        for number in range(partition, DEVICES, PARTITIONS):
            gateway = f"device-{number}"
            yield device_key(gateway), Device(gateway, "temperature-sensor").encode()
            for child in (f"{gateway}-a", f"{gateway}-b") if number % 8 == 7 else ():
                yield device_key(child), Device(child, "temperature-sensor", parent=gateway).encode()

    def written(self, reader: Consumer) -> int:
        """Records in telemetry.readings."""
        parts = (TopicPartition(names.READINGS, p) for p in range(PARTITIONS))
        return sum(reader.get_watermark_offsets(part, timeout=10)[1] for part in parts)


@contextmanager
def _service(settings: KafkaSettings, folder: Path) -> Iterator[int]:
    environment = {
        "MILLRACE_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "MILLRACE_SNAPSHOT_INTERVAL_S": "0.6",
        "MILLRACE_LOG_LEVEL": "error",
    }
    with (folder / "access.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streams.access"], env=os.environ | environment, stdout=log, stderr=log
        )
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(bed: Bed, folder: Path, make: Payload, size: int, messages: int) -> tuple[float, float, float]:
    """(median CPU µs a message, resident MB when warm, and at the end)."""
    expected = bed.renew()
    r, seqs = random.Random(size), dict[str, Iterator[int]]()
    reader = consumer(bed.settings, "bench")
    costs, memory = [], []
    with _service(bed.settings, folder) as pid:
        for _ in range(1 + RUNS):
            values = [ipc.encode(rows(make, n % PARTITIONS, size, r, seqs)) for n in range(messages // size)]
            begin = cpu_of_s(pid)
            bed.write(values, size)
            expected += len(values)
            wait(bed, reader, expected, folder)
            costs.append((cpu_of_s(pid) - begin) / messages * 1e6)
            memory.append(memory_mb(pid))
    reader.close()
    return statistics.median(costs[1:]), memory[0], memory[-1]


def wait(bed: Bed, reader: Consumer, expected: int, folder: Path) -> None:
    """Until so many records are answered."""
    deadline = time.monotonic() + _DEADLINE_S
    while bed.written(reader) < expected:
        assert time.monotonic() < deadline, (folder / "access.log").read_text()
        time.sleep(0.02)


def naive_us(bed: Bed) -> float:
    """CPU µs a message of the rival, on flat messages."""
    found = admin(bed.settings)
    wanted = [NewTopic(name, PARTITIONS, 1) for name in ("naive", "naive.out")]
    for future in found.create_topics(wanted).values():
        future.result(20)
    out = producer(bed.settings, {"queue.buffering.max.messages": 1_000_000, "linger.ms": 20})
    r, seqs = random.Random(1), dict[str, Iterator[int]]()
    for partition in range(PARTITIONS):
        batch = rows(flat, partition, NAIVE_MESSAGES // PARTITIONS, r, seqs)
        for row in batch.select(["device", "topic", "payload"]).to_pylist():
            row["payload"] = row["payload"].decode()
            out.produce("naive", orjson.dumps(row), key=row["device"], partition=partition)
    assert out.flush(60) == 0
    code = [sys.executable, "-W", "ignore", "-m", "benchmarks.access_naive"]
    given = [bed.settings.kafka_bootstrap, "naive", "naive.out", str(NAIVE_MESSAGES)]
    done = subprocess.run([*code, *given], capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    assert done.stdout.strip(), done.stderr[-2000:]
    return float(done.stdout.split()[-1])


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
    """access_flat_us, access_mixed_us, access_hostile_us at 1,000 rows a record, and at 250 and 50; memory."""
    with _bed() as (bed, folder):
        rival = naive_us(bed)
        for make in (flat, mixed, hostile):
            for size, messages in SIZES.items():
                cost, before_mb, after_mb = measure(bed, folder, make, size, messages)
                name = f"access_{make.__name__}_us" if size == 1_000 else f"access_{make.__name__}_{size}_us"
                against = ("naive Faust agent", rival) if make is flat else ("", None)
                yield Figure(name, cost, "us/message", *against)
                if size == 1_000:
                    growth = max(0.0, after_mb - before_mb)
                    yield Figure(f"access_{make.__name__}_mb", after_mb, "MB", "grown by", growth, growth / after_mb)


if __name__ == "__main__":
    for figure in figures():
        print(orjson.dumps(figure.line()).decode(), flush=True)
