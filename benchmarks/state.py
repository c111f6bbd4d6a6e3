"""Snapshots and restores of a million series in one worker, over four partitions, against real Kafka.

The stage (state_stage.py) is fed 20,000 readings a second, anywhere among its series, so that every chunk of what
changes at all has changed by the next snapshot: nothing but the names is found stored already. The worker is killed
with -9 and started again.
"""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.figures import Figure
from benchmarks.state_stage import ROWS, SERIES
from local.ports import free
from runtime.kafka import topics
from runtime.kafka.clients import producer
from runtime.settings import KafkaSettings
from schemas import topics as names
from schemas.headers import raw_data
from tests.servers import KafkaServer

PARTITIONS = 4
ROUNDS = 2
"""Of snapshots that are measured, after the first, which finds nothing stored."""
RECORDS_PER_S = 20
_DEADLINE_S = 300.0


@dataclass
class Worker:
    """The stage's process and what its metrics say."""

    settings: KafkaSettings
    folder: Path
    port: int = 0
    began: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    waits_s: list[float] = field(default_factory=list)

    def start(self) -> None:
        self.port, self.began = free()[0], time.monotonic()
        environment = {
            "MILLRACE_KAFKA_BOOTSTRAP": self.settings.kafka_bootstrap,
            "MILLRACE_HTTP_BIND": f"127.0.0.1:{self.port}",
            "MILLRACE_LOG_LEVEL": "warning",
        }
        with (self.folder / "state.log").open("a") as log:
            command = [sys.executable, "-m", "benchmarks.state_stage"]
            self.process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    def wait_ready(self) -> float:
        """Seconds from its start until it is ready."""
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=2):
                    return time.monotonic() - self.began
            except OSError:
                self._alive(self.began)
                time.sleep(0.02)

    def figures(self) -> dict[str, float]:
        """By name; of several partitions the sum, and of waits all that were seen are kept."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        found: dict[str, float] = {}
        for sample in (sample for family in families for sample in family.samples):
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
            if sample.name == "millrace_stage_snapshot_wait_seconds" and sample.value not in self.waits_s:
                self.waits_s.append(sample.value)
        return found

    def wait_series(self, count: int) -> dict[str, float]:
        """The metrics, once they count so many series."""
        begin = time.monotonic()
        while (now := self.figures()).get("millrace_stage_state_items") != count:
            self._alive(begin)
            time.sleep(0.1)
        return now

    def wait_snapshots(self, count: int) -> tuple[float, float]:
        """Until so many were stored: (time, bytes written by them)."""
        begin = time.monotonic()
        while (now := self.figures()).get("millrace_stage_snapshots_total", 0) < count:
            self._alive(begin)
            time.sleep(0.1)
        return time.monotonic(), now["millrace_stage_snapshot_written_bytes_total"]

    def _alive(self, begin: float) -> None:
        assert self.process is not None
        log = self.folder / "state.log"
        assert self.process.poll() is None and time.monotonic() < begin + _DEADLINE_S, log.read_text()[-2000:]


@contextmanager
def _worker() -> Iterator[Worker]:
    with tempfile.TemporaryDirectory() as name:
        server = KafkaServer(Path(name) / "kafka")
        server.engine.folder.parent.mkdir(parents=True, exist_ok=True)
        server.start()
        worker = Worker(KafkaSettings(kafka_bootstrap=server.bootstrap), Path(name))
        try:
            wanted = {names.CONTROL, names.RAW, names.state_topic("bench")}
            plans = topics.plans(PARTITIONS, 1, stages=("bench",))
            topics.ensure(worker.settings, [plan for plan in plans if plan.name in wanted], 1)
            yield worker
        finally:
            worker.kill()
            server.kill()


@contextmanager
def _fed(settings: KafkaSettings) -> Iterator[None]:
    """Readings, at a steady rate, by a process of their own."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.state", "feed", settings.kafka_bootstrap])
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


def feed(bootstrap: str) -> None:
    out = producer(KafkaSettings(kafka_bootstrap=bootstrap))
    dice, number = np.random.default_rng(1), 0
    while True:
        value = dice.integers(0, 1 << 62, ROWS).tobytes()
        out.produce(names.RAW, value, partition=number % PARTITIONS, headers=raw_data(ROWS))
        out.poll(0)
        number += 1
        time.sleep(1 / RECORDS_PER_S)


def figures() -> Iterator[Figure]:
    """state_restore_s (target 20), state_freeze_ms (the longest of all snapshots; target 50), state_write_mb_per_s
    (target 5) and state_bytes_per_series."""
    series = SERIES * PARTITIONS
    with _worker() as worker:
        worker.start()
        worker.wait_ready()
        with _fed(worker.settings):
            # the first is made when partitions are taken over, the second finds nothing stored
            begin, before = worker.wait_snapshots(2 * PARTITIONS)
            worker.waits_s.clear()
            end, after = worker.wait_snapshots(PARTITIONS * (2 + ROUNDS))
            state = worker.figures()["millrace_stage_state_bytes"]
            worker.kill()
            worker.start()
            ready_s = worker.wait_ready()
            restored = worker.wait_series(series)
    restore_s = restored["millrace_stage_restore_seconds_sum"]
    yield Figure("state_restore_s", restore_s, "s", "start of the process to ready", ready_s)
    longest, usual = max(worker.waits_s), sorted(worker.waits_s)[len(worker.waits_s) // 2]
    yield Figure("state_freeze_ms", longest * 1e3, "ms", "median", usual * 1e3)
    yield Figure("state_write_mb_per_s", (after - before) / (end - begin) / 1e6, "MB/s")
    stored = (after - before) / ROUNDS / series
    yield Figure("state_bytes_per_series", state / series, "B", "of them written a snapshot", stored)


if __name__ == "__main__":
    if sys.argv[1:2] == ["feed"]:
        feed(sys.argv[2])
    for figure in figures():
        print(orjson.dumps(figure.line()).decode(), flush=True)
