"""CPU µs a reading of the presence stage, everything included; see benchmarks/behind.py."""

import statistics
import time
from collections.abc import Iterator

import numpy as np
import orjson
import pyarrow as pa

from benchmarks import behind
from benchmarks.figures import Figure
from streams.presence.core.devices import Is
from streams.presence.core.watch import Watch
from streams.presence.rules import default

MANY = 250_000
_TICKS = 200


def figures() -> Iterator[Figure]:
    """presence_us at 1,000 rows a record, and at 250 and 50; presence_tick_ms with 250,000 devices in a partition."""
    with behind.bed_of("presence") as (bed, folder):
        for size, total in behind.SIZES.items():
            name = "presence_us" if size == 1_000 else f"presence_{size}_us"
            yield Figure(name, behind.measure(bed, folder, size, total), "us/reading")
    median, most = ticks_ms()
    yield Figure("presence_tick_ms", median, "ms", "the slowest", most, most / median)


def ticks_ms() -> tuple[float, float]:
    """CPU of a tick with MANY devices, each of which speaks every ten seconds: median, and the most of a warm run."""
    watch = Watch(default())
    numbers = watch.devices.numbers(pa.array([f"device-{n}" for n in range(MANY)]), np.zeros(MANY, np.int64))
    columns = watch.devices.columns
    turns = np.array_split(numbers, 10)
    costs = []
    for turn in range(_TICKS):
        begin = time.process_time()
        watch.tick(behind.NOW_MS + 1_000 * turn)
        costs.append((time.process_time() - begin) * 1000)
        watch._hear(turns[turn % 10])
        if turn == 10:
            columns.now[numbers] = columns.told[numbers] = Is.ONLINE
            watch._wait(numbers)
    return statistics.median(costs[_TICKS // 2 :]), max(costs[_TICKS // 2 :])


if __name__ == "__main__":
    for figure in figures():
        print(orjson.dumps(figure.line()).decode(), flush=True)
