"""CPU µs a reading of the aggregate stage, everything included: Faust, Kafka's clients, Arrow in and out, snapshots.

Real Kafka, the real service; see benchmarks/behind.py. Two metrics of 2,000 devices; each portion is a minute of stream
time, so that every series' window is written once in it, with its sketch. What is on is in the name: `aggregate_us`
and its like have the sketch on and groups off, `aggregate_groups_us` has the sketch and four labels of every device,
`aggregate_plain_us` neither. Rivals in the same run, without sketch and groups (aggregate_naive.py): a plain Faust
agent with a table, and Quix Streams where the extra `rivals` is installed; and a loop of numpy over the same records,
which keeps no promise at all.
"""

import importlib.util
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import NewTopic

from benchmarks import access, behind
from benchmarks.figures import Figure, cpu_of_s, cpu_s
from runtime.kafka.clients import admin, consumer, producer
from schemas import headers, ipc, raw
from schemas import topics as names
from schemas.control import Device, device_key, settings_key
from streams.aggregate.windowing import Windowing

WINDOW_MS = 60_000
SKETCH = Windowing(groups=())
GROUPS = Windowing(groups=("role", "site", "model", "firmware"))
PLAIN = Windowing(groups=(), sketch=False)
NAIVE_READINGS = 20_000
MESSAGES = 100_000
"""Of a portion through access and aggregate."""
_NUMBERS = ("count", "sum", "sum_squares", "min", "max", "first", "last")
_DEADLINE_S = 120.0


def controls(windowing: Windowing) -> list[tuple[str, bytes]]:
    found = [(settings_key("aggregate"), windowing.encode())]
    for number in range(behind.DEVICES) if windowing.groups else ():
        labels = {"site": f"site-{number % 20}", "model": f"model-{number % 5}", "firmware": f"1.{number % 3}"}
        device = Device(f"device-{number}", ("meter", "motor")[number % 2], labels=labels)
        found.append((device_key(device.id), device.encode(with_token=False)))
    return found


def measure(bed: behind.Bed, folder: Path, size: int, windowing: Windowing) -> tuple[float, float]:
    """(CPU µs a reading, readings a second by the clock)."""
    total = behind.SIZES[size]
    ticks = -(-total // (size * behind.PARTITIONS * behind.TICK_EVERY))
    bed.controls, bed.tick_ms, bed.now_ms = controls(windowing), WINDOW_MS // ticks, _minute(behind.NOW_MS)
    return behind.measure_both(bed, folder, size, total)


def _minute(time_ms: int) -> int:
    return time_ms // WINDOW_MS * WINDOW_MS


# --- rivals


def rival_us(bed: behind.Bed, rival: str) -> float:
    """CPU µs a reading of a rival."""
    source, target = f"naive.{rival}", f"naive.{rival}.out"
    wanted = [NewTopic(name, behind.PARTITIONS, 1) for name in (source, target)]
    found = admin(bed.settings)
    for future in found.create_topics(wanted).values():
        future.result(20)
    out = producer(bed.settings, {"queue.buffering.max.messages": 1_000_000, "linger.ms": 20})
    r = random.Random(1)
    for number in range(NAIVE_READINGS):
        partition = number % behind.PARTITIONS
        device = behind.PARTITIONS * r.randrange(behind.DEVICES // behind.PARTITIONS) + partition
        time_ms = _minute(behind.NOW_MS) + number * 3 * WINDOW_MS // NAIVE_READINGS
        value = orjson.dumps({"time": time_ms, "value": round(r.gauss(20, 5), 2)})
        out.produce(source, value, key=f"device-{device}/{behind.METRICS[number // 7 % 2]}", partition=partition)
    assert out.flush(60) == 0
    code = [sys.executable, "-W", "ignore", "-m", "benchmarks.aggregate_naive", rival]
    given = [bed.settings.kafka_bootstrap, source, target, str(NAIVE_READINGS)]
    done = subprocess.run([*code, *given], capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    assert done.stdout.strip(), done.stderr[-2000:]
    return float(done.stdout.split()[-1])


def loop_us(bed: behind.Bed) -> float:
    """CPU µs a reading of a bare loop over the records of the last run: poll, decode, numbers for series by a
    dictionary, numpy's `at`. No snapshot, no provenance, no late reading, nothing written."""
    reader = consumer(bed.settings, "loop", more={"enable.partition.eof": True})
    reader.assign([TopicPartition(names.READINGS, partition, 0) for partition in range(behind.PARTITIONS)])
    sums = _Sums()
    begin, ended = cpu_s(), 0
    while ended < behind.PARTITIONS:
        for found in reader.consume(100, 1.0):
            ended += found.error() is not None
            if not found.error() and dict(found.headers() or ())["kind"] == b"data":
                sums.fold(ipc.decode(found.value() or b""))
    spent = cpu_s() - begin
    reader.close()
    return spent / sums.readings * 1e6


class _Sums:
    """Windows by series."""

    def __init__(self) -> None:
        self.readings = 0
        self.windows: dict[tuple[str, str, int], int] = {}
        self.columns = {name: np.zeros(1 << 17) for name in _NUMBERS}

    def fold(self, batch: Any) -> None:
        device, metric = batch.column("device"), batch.column("metric")
        window = batch.column("time").cast(pa.int64()).to_numpy() // WINDOW_MS
        begin = int(window.min())
        words = len(metric.dictionary), int(window.max()) - begin + 1
        mixed = (device.indices.to_numpy() * words[0] + metric.indices.to_numpy()) * words[1] + window - begin
        known, place = np.unique(mixed, return_inverse=True)
        of_device, of_metric = device.dictionary.to_pylist(), metric.dictionary.to_pylist()
        numbers = [
            self.windows.setdefault(
                (of_device[n // words[1] // words[0]], of_metric[n // words[1] % words[0]], begin + n % words[1]),
                len(self.windows),
            )
            for n in known.tolist()
        ]
        at, value = np.array(numbers)[place], batch.column("value").to_numpy()
        np.add.at(self.columns["count"], at, 1.0)
        np.add.at(self.columns["sum"], at, value)
        np.add.at(self.columns["sum_squares"], at, value * value)
        np.minimum.at(self.columns["min"], at, value)
        np.maximum.at(self.columns["max"], at, value)
        self.columns["last"][at] = value
        self.columns["first"][at[::-1]] = value[::-1]
        self.readings += len(batch)


# --- with access before it


def with_access_us(bed: behind.Bed, folder: Path) -> tuple[float, float]:
    """CPU µs a flat message of two metrics: (of access and aggregate together, of aggregate alone)."""
    bed.controls = []
    bed.renew()
    before = access.Bed(bed.settings)
    before.renew()
    r, seqs = random.Random(1), dict[str, Iterator[int]]()
    reader = consumer(bed.settings, "bench")
    now_ms, both, alone = _minute(access.NOW_MS), [], []
    with (
        behind.service(bed.settings, "access", folder, 1.0) as one,
        behind.service(bed.settings, "aggregate", folder, 1.0) as other,
    ):
        for _ in range(behind.WARM + behind.RUNS):
            records = [_flat(n % behind.PARTITIONS, r, seqs, now_ms) for n in range(MESSAGES // 1_000)]
            now_ms += WINDOW_MS
            begin = cpu_of_s(one), cpu_of_s(other)
            before.write(records, 1_000)
            _tick(before, now_ms)
            bed.src = _ends(bed, reader)
            behind.wait(bed, reader, folder)
            spent = cpu_of_s(one) - begin[0], cpu_of_s(other) - begin[1]
            both.append(sum(spent) / MESSAGES * 1e6)
            alone.append(spent[1] / MESSAGES * 1e6)
    reader.close()
    return float(np.median(both[behind.WARM :])), float(np.median(alone[behind.WARM :]))


def _flat(partition: int, r: random.Random, seqs: dict[str, Iterator[int]], now_ms: int) -> bytes:
    """A raw record, received now."""
    batch = access.rows(access.flat, partition, 1_000, r, seqs)
    where = raw.SCHEMA.get_field_index("received_at")
    return ipc.encode(
        batch.set_column(where, raw.SCHEMA.field(where), pa.array([now_ms] * len(batch), raw.SCHEMA.field(where).type))
    )


def _tick(bed: access.Bed, time_ms: int) -> None:
    for partition in range(behind.PARTITIONS):
        bed.out.produce(names.RAW, b"", partition=partition, headers=headers.raw_tick(time_ms))
    assert bed.out.flush(60) == 0


def _ends(bed: behind.Bed, reader: Consumer) -> list[int]:
    parts = (TopicPartition(names.RAW, partition) for partition in range(behind.PARTITIONS))
    return [int(reader.get_watermark_offsets(part, timeout=10)[1]) for part in parts]


def figures() -> Iterator[Figure]:
    """aggregate_us, aggregate_250_us, aggregate_50_us, aggregate_rate, variants, access_aggregate_us."""
    with behind.bed_of("aggregate") as (bed, folder):
        cost, rate = measure(bed, folder, 1_000, SKETCH)
        bare = loop_us(bed)
        naive = rival_us(bed, "faust")
        yield Figure("aggregate_us", cost, "us/reading", "naive Faust agent with a table", naive)
        yield Figure("aggregate_bare_us", cost, "us/reading", "bare numpy loop", bare)
        if importlib.util.find_spec("quixstreams"):
            yield Figure("aggregate_quix_us", cost, "us/reading", "Quix Streams", rival_us(bed, "quix"))
        yield Figure("aggregate_rate", rate, "readings/s")
        for size in (250, 50):
            yield Figure(f"aggregate_{size}_us", measure(bed, folder, size, SKETCH)[0], "us/reading")
        yield Figure("aggregate_groups_us", measure(bed, folder, 1_000, GROUPS)[0], "us/reading")
        yield Figure("aggregate_plain_us", measure(bed, folder, 1_000, PLAIN)[0], "us/reading")
        both, alone = with_access_us(bed, folder)
        yield Figure("access_aggregate_us", both, "us/message", "aggregate's part", alone)


if __name__ == "__main__":
    for figure in figures():
        print(orjson.dumps(figure.line()).decode(), flush=True)
