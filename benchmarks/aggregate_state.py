"""The aggregate stage's state: bytes a series, all included, and what a million series take to copy and to restore.

The core alone, in one process: half a million devices of two metrics in one partition, a reading every ten seconds, one
minute's window open for each series. Bytes are those of all arrays as they lie in memory, hash tables and room to grow
included, over the series. The copy is what stops the flow at a snapshot; the restore is from memory, without Kafka and
zstd.
"""

import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from benchmarks.anomaly import batch
from benchmarks.figures import Figure
from runtime.stage.contract import Frozen, Record
from runtime.stage.copies import Copies, allocate
from schemas import ipc
from schemas.control import settings_key
from schemas.headers import Counts, ReadingsHeaders, Version, raw_control
from schemas.vocabulary import Kind
from streams.aggregate.core.stage import AggregateStage
from streams.aggregate.core.state import State
from streams.aggregate.core.warm import warm
from streams.aggregate.windowing import Windowing

DEVICES = 500_000
METRICS = 2
EACH = 6
"""Readings of a series in its window."""
ROWS = 50_000
RUNS = 5
NOW_MS = 1_790_000_040_000


def filled(windowing: Windowing, devices: int = DEVICES, each: int = EACH) -> State:
    """A state with a window open for every series."""
    state = AggregateStage().create(0)
    state.apply(_control(windowing))
    r = np.random.default_rng(1)
    device, metric = np.repeat(np.arange(devices), METRICS), np.tile(np.arange(METRICS), devices)
    level = 20 + device % 7 + 30 * metric
    for turn in range(each):
        for rows in np.array_split(np.arange(len(device)), -(-len(device) // ROWS)):
            time_ms = np.full(len(rows), NOW_MS + turn * 60_000 // each)
            value = np.round(level[rows] + r.normal(0, 1, len(rows)), 2)
            state.apply(_data(batch(device[rows], metric[rows], time_ms, value)))
    return state


def _control(windowing: Windowing) -> Record:
    mark = tuple(h for h in raw_control(Version(0, 0), settings_key("aggregate")) if h[0] in ("version", "key"))
    headers = ReadingsHeaders(Kind.CONTROL, 0, control=mark)
    return Record(0, 0, 0, 0, Kind.CONTROL, dict(headers.encode()), windowing.encode())


def _data(rows: pa.RecordBatch) -> Record:
    headers = ReadingsHeaders(Kind.DATA, NOW_MS, Counts(readings=len(rows)))
    return Record(0, 1, 0, 1, Kind.DATA, dict(headers.encode()), ipc.encode(rows))


def bytes_a_series(state: State) -> float:
    sizes = state.sizes()
    return sizes["bytes"] / sizes["series"]


def freeze_ms(state: State) -> float:
    """How long the flow waits for a copy, by the clock; the least of some, since others use the machine too."""
    copies, found = Copies(), []
    for _ in range(RUNS):
        begin = time.perf_counter()
        frozen = state.freeze()
        lacking = copies.lacking(frozen)
        taken = time.perf_counter() - begin
        copies.add(allocate(lacking))
        begin = time.perf_counter()
        copy = copies.take(frozen)
        found.append((taken + time.perf_counter() - begin) * 1000)
        copies.give_back(copy)
    return min(found)


def restore_s(state: State) -> float:
    """CPU seconds from the arrays of a snapshot to a state that works."""
    stored, costs = state.freeze(), []
    for _ in range(RUNS):
        own: dict[str, Any] = {name: array.copy() for name, array in stored.arrays.items()}
        begin = time.process_time()
        AggregateStage().restore(0, Frozen(stored.meta, own), AggregateStage.logic_version)
        costs.append(time.process_time() - begin)
    return statistics.median(costs)


def figures() -> Iterator[Figure]:
    """aggregate_state_bytes, aggregate_plain_state_bytes, aggregate_busy_state_bytes, aggregate_freeze_ms,
    aggregate_restore_s."""
    warm()
    plain = bytes_a_series(filled(Windowing(groups=(), sketch=False)))
    busy = bytes_a_series(filled(Windowing(groups=()), DEVICES // 10, 60))
    state = filled(Windowing(groups=()))
    found = bytes_a_series(state)
    yield Figure("aggregate_state_bytes", found, "B/series", "at most", 1024.0)
    yield Figure("aggregate_sketch_bytes", found - plain, "B/series")
    yield Figure("aggregate_busy_state_bytes", busy, "B/series", "at most", 1024.0)
    yield Figure("aggregate_freeze_ms", freeze_ms(state), "ms", "at most", 50.0)
    yield Figure("aggregate_restore_s", restore_s(state), "s", "at most", 20.0)


if __name__ == "__main__":
    for figure in figures():
        print(orjson.dumps(figure.line()).decode(), flush=True)
