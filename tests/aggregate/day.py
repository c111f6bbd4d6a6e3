"""Hours of telemetry, made up: written to telemetry.raw with their own times of receipt and ticks, and the truth.

Every `interval_s` a device sends `burst` messages of two metrics, ten seconds apart. One message in a hundred is
received late, up to ten minutes; one in two hundred is received twice. What a value is depends on device and number of
the message alone.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from schemas import headers, ipc, raw
from schemas.control import POLICY_KEY, Device, device_key
from schemas.headers import Version
from schemas.partition import partition_of
from streams.access.policy import check

BEGIN_MS = (int(time.time()) // 86_400 - 1) * 86_400_000
"""Yesterday: tables forget what is too old."""
_BURST_MS = 10_000
"""Between the messages of a burst."""
_LATE_MS = 600_000
_PAYLOAD = b'{"ts":%d,"temperature":%d.%02d,"humidity":%d.%02d,"boot":1,"seq":%d}'
POLICY = "roles: {meter: {publish: [telemetry/*]}, motor: {publish: [telemetry/*]}}"

Send = Callable[[int, list[tuple[str, bytes]], bytes], None]
"""Partition, headers, value."""


@dataclass
class Partition:
    """The messages of one partition in the order of receipt, and how many of them were sent."""

    number: int
    device: Any
    seq: Any
    time_ms: Any
    received_ms: Any
    sent: int = 0


class Day:
    """`devices` report for `hours`. `truth` is what they said, each message once."""

    def __init__(
        self, devices: int, hours: float, interval_s: int, partitions: int, burst: int = 1, seed: int = 1
    ) -> None:
        self.names = [f"device-{n}" for n in range(devices)]
        self.rng = np.random.default_rng(seed)
        self.end_ms = BEGIN_MS + round(hours * 3_600_000)
        homes = np.array([partition_of(name.encode(), partitions) for name in self.names])
        turns = np.arange(round(hours * 3600 / interval_s)) * interval_s * 1000
        sends_at = (turns[:, None] + np.arange(burst) * _BURST_MS).reshape(-1)
        phase = self.rng.integers(0, interval_s * 1000, devices)
        self.partitions = [self._partition(p, np.flatnonzero(homes == p), phase, sends_at) for p in range(partitions)]
        self._sent_ms = BEGIN_MS

    def _partition(self, number: int, devices: Any, phase: Any, sends_at: Any) -> Partition:
        rng, each = self.rng, len(sends_at)
        device, seq = np.repeat(devices, each).astype(np.int32), np.tile(np.arange(each, dtype=np.int32), len(devices))
        time_ms = BEGIN_MS + phase[device] + sends_at[seq]
        late = np.where(rng.random(len(device)) < 0.01, rng.integers(0, _LATE_MS, len(device)), 0)
        received_ms = time_ms + rng.integers(5, 1_500, len(device)) + late
        again = np.flatnonzero(rng.random(len(device)) < 0.005)
        row = np.concatenate([np.arange(len(device)), again])
        received_ms = np.concatenate([received_ms, received_ms[again] + rng.integers(0, 60_000, len(again))])
        order = np.argsort(received_ms, kind="stable")
        row, received_ms = row[order], received_ms[order]
        return Partition(number, device[row], seq[row], time_ms[row], received_ms)

    # --- sending

    def controls(self, send: Send) -> None:
        """Policy and registry, to every partition."""
        for partition in self.partitions:
            for number, (key, value) in enumerate(self._controls(partition)):
                send(partition.number, headers.raw_control(Version(0, number), key), value)

    def _controls(self, partition: Partition) -> Iterator[tuple[str, bytes]]:
        yield POLICY_KEY, check(POLICY, "day").encode()
        for number in np.unique(partition.device).tolist():
            name = self.names[number]
            yield device_key(name), self.device(number).encode(with_token=False)

    def device(self, number: int) -> Device:
        return Device(self.names[number], ("meter", "motor")[number % 2], labels={"site": f"site-{number % 7}"})

    def send(self, send: Send, until_ms: int, tick_s: int, most_rows: int = 1_000) -> None:
        """All that is received before `until_ms` and was not sent, with ticks, partition after partition in turns."""
        for tick_ms in range(self._sent_ms + tick_s * 1000, until_ms + 1, tick_s * 1000):
            for partition in self.partitions:
                end = int(np.searchsorted(partition.received_ms, tick_ms))
                for start in range(partition.sent, end, most_rows):
                    rows = slice(start, min(end, start + most_rows))
                    value = ipc.encode(self._batch(partition, rows))
                    send(partition.number, headers.raw_data(rows.stop - rows.start), value)
                partition.sent = end
                send(partition.number, headers.raw_tick(tick_ms), b"")
            self._sent_ms = tick_ms

    def tick(self, send: Send, step_ms: int) -> None:
        """A later tick to every partition."""
        self._sent_ms += step_ms
        for partition in self.partitions:
            send(partition.number, headers.raw_tick(self._sent_ms), b"")

    def _batch(self, partition: Partition, rows: slice) -> Any:
        device, seq = partition.device[rows], partition.seq[rows]
        names = [self.names[n] for n in device.tolist()]
        whole, hundredths = np.divmod(values(device, seq), 100)
        parts = (partition.time_ms[rows], whole[:, 0], hundredths[:, 0], whole[:, 1], hundredths[:, 1], seq)
        size = len(names)
        columns: dict[str, Any] = {
            "device": names,
            "topic": [f"d/{name}/telemetry/climate" for name in names],
            "payload": [_PAYLOAD % found for found in zip(*(part.tolist() for part in parts), strict=True)],
            "transport": [0] * size,
            "qos": [1] * size,
            "retain": [False] * size,
            "received_at": partition.received_ms[rows],
        }
        arrays = [
            pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(size, f.type) for f in raw.SCHEMA
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=raw.SCHEMA)

    # --- truth

    def readings(self, partition: int) -> int:
        """How many readings its devices sent, each once."""
        part = self.partitions[partition]
        return 2 * len(np.unique(part.device.astype(np.int64) << 32 | part.seq))

    def truth(self, partition: int, window_ms: int = 60_000) -> pa.Table:
        """What the windows of a partition's devices hold: see `merged`."""
        part = self.partitions[partition]
        _, first = np.unique(part.device.astype(np.int64) << 32 | part.seq, return_index=True)
        device, seq, time_ms = part.device[first], part.seq[first], part.time_ms[first]
        value = (values(device, seq) / 100).T.reshape(-1)  # what parsing the text gives: both are rounded once
        times = np.tile(time_ms, 2)
        readings = {
            "device": np.tile(device, 2),
            "metric": np.repeat(np.array([0, 1], np.int8), len(device)),
            "window": times // window_ms * window_ms,
            "count": np.ones(len(value), np.int64),
            "sum": value,
            "sum_squares": value * value,
            **dict.fromkeys(("min", "max", "first", "last"), value),
            **dict.fromkeys(("first_time", "last_time"), times),
        }
        return merged(pa.table(readings))


def values(device: Any, seq: Any) -> Any:
    """int64[messages, 2]: temperature and humidity in hundredths."""
    mixed = (device.astype(np.uint64) << np.uint64(32) | seq.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    return np.stack([1_500 + mixed % np.uint64(1_500), 3_000 + (mixed >> np.uint64(20)) % np.uint64(4_000)], 1).astype(
        np.int64
    )


KEYS = ["device", "metric", "window"]
_SUMS = ("count", "sum", "sum_squares")


def merged(partials: pa.Table) -> pa.Table:
    """Partials of each window added up as the contract says, in order of KEYS."""
    by_first = partials.sort_by("first_time").group_by(KEYS, use_threads=False).aggregate([("first", "first")])
    ordered = partials.sort_by("last_time").group_by(KEYS, use_threads=False)
    found = ordered.aggregate(
        [
            *((name, "sum") for name in _SUMS),
            ("min", "min"),
            ("max", "max"),
            ("first_time", "min"),
            ("last_time", "max"),
            ("last", "last"),
        ]
    )
    order = [(key, "ascending") for key in KEYS]
    found, by_first = found.sort_by(order), by_first.sort_by(order)
    return found.append_column("first_first", by_first.column("first_first"))


def difference(truth: pa.Table, found: pa.Table) -> list[str]:
    """Columns of merged tables that are not the same: all exactly, sums to rounding."""
    if len(truth) != len(found):
        return [f"{len(found)} windows instead of {len(truth)}"]
    wrong = []
    for name in truth.column_names:
        expected, got = (np.asarray(table.column(name)) for table in (truth, found))
        same = (
            np.isclose(got, expected, rtol=1e-12, atol=0) if "sum" in name and "count" not in name else got == expected
        )
        if not same.all():
            first = int(np.argmin(same))
            wrong.append(f"{name}: {(~same).sum()} differ, first {truth.slice(first, 1)}: {got[first]}")
    return wrong


def partials_of(rows: pa.Table) -> pa.Table:
    """Rows of devices of telemetry.aggregates or of aggregates_1m as what `merged` takes."""
    names, metrics = rows.column("device").cast(pa.string()), rows.column("metric").cast(pa.string())
    number = pa.compute.cast(pa.compute.utf8_slice_codeunits(names, len("device-")), pa.int32())
    metric = pa.compute.cast(pa.compute.equal(metrics, "humidity"), pa.int8())
    times = {
        own: rows.column(name).cast(pa.timestamp("ms", "UTC")).cast(pa.int64())
        for own, name in (("window", "window_start"), ("first_time", "first_time"), ("last_time", "last_time"))
    }
    same = ("count", "sum", "sum_squares", "min", "max", "first", "last")
    return pa.table({"device": number, "metric": metric, **times, **{name: rows.column(name) for name in same}})
