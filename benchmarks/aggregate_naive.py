"""Rivals of the aggregate stage: a plain Faust agent with a table, and Quix Streams, a reading at a time.

Both do what one writes first: JSON in, a record a reading, windows of a minute per series with count, sum, sum of
squares, least and greatest, first and last; no sketch, no groups. When a series' next window begins, the one before is
written. State is as it comes: Faust's table in memory with its changelog topic, Quix's RocksDB with its changelog.

`python -m benchmarks.aggregate_naive {faust,quix} BOOTSTRAP SOURCE TARGET READINGS` prints CPU µs a reading.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks.figures import cpu_s

WARM = 2_000
WINDOW_MS = 60_000


def metered(readings: int) -> Callable[[], None]:
    """To be called for each reading; it ends the process after so many."""
    count, begin = 0, 0.0

    def seen() -> None:
        nonlocal count, begin
        count += 1
        if count == WARM:
            begin = cpu_s()
        elif count == readings:
            print((cpu_s() - begin) / (readings - WARM) * 1e6, flush=True)
            os._exit(0)

    return seen


def fold(found: dict[str, Any] | None, time_ms: int, value: float) -> dict[str, Any]:
    """A window with one reading more."""
    if found is None:
        once = {"count": 1, "sum": value, "sum_squares": value * value, "min": value, "max": value}
        return once | {"first": value, "last": value, "first_time": time_ms, "last_time": time_ms}
    found["count"] += 1
    found["sum"] += value
    found["sum_squares"] += value * value
    found["min"], found["max"] = min(found["min"], value), max(found["max"], value)
    if time_ms < found["first_time"]:
        found["first"], found["first_time"] = value, time_ms
    if time_ms >= found["last_time"]:
        found["last"], found["last_time"] = value, time_ms
    return found


def run_faust(bootstrap: str, source: str, target: str, readings: int, folder: str) -> None:
    import faust

    app = faust.App(
        f"naive-{source}",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        value_serializer="json",
        web_enabled=False,
        topic_partitions=4,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        worker_redirect_stdouts=False,
        datadir=folder,
    )
    out = app.topic(target, value_serializer="json")
    windows = app.Table("windows", partitions=4)
    seen = metered(readings)

    @app.agent(app.topic(source, key_type=str, value_serializer="json"))
    async def aggregate(stream: Any) -> None:
        async for series, reading in stream.items():
            begin = reading["time"] // WINDOW_MS * WINDOW_MS
            found = windows.get(series)
            if found is not None and found["window"] < begin:
                await out.send(key=series, value=found)
                found = None
            windows[series] = fold(found, reading["time"], reading["value"]) | {"window": begin}
            seen()

    faust.Worker(app, loglevel="error").execute_from_commandline()


def run_quix(bootstrap: str, source: str, target: str, readings: int, folder: str) -> None:
    from quixstreams import Application

    app = Application(
        broker_address=bootstrap,
        consumer_group=f"quix-{source}",
        auto_offset_reset="earliest",
        state_dir=folder,
        loglevel="ERROR",
    )
    seen = metered(readings)

    def at(value: Any, *_: Any) -> int:
        seen()
        return int(value["time"])

    frame = app.dataframe(app.topic(source, value_deserializer="json", timestamp_extractor=at))
    window = frame.tumbling_window(WINDOW_MS).reduce(
        initializer=lambda reading: fold(None, reading["time"], reading["value"]),
        reducer=lambda found, reading: fold(found, reading["time"], reading["value"]),
    )
    window.final().to_topic(app.topic(target, value_serializer="json"))
    app.run()


if __name__ == "__main__":
    rival, bootstrap, source, target, readings = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        {"faust": run_faust, "quix": run_quix}[rival](bootstrap, source, target, int(readings), folder)
