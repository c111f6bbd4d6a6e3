"""A broker's topics, worker processes of access and aggregate that may be killed, and what they have written."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from confluent_kafka import Message

from local.ports import LOOPBACK, free
from runtime.kafka import topics
from runtime.kafka.clients import producer
from runtime.kafka.log import NEWEST, OLDEST, LogReader
from runtime.settings import KafkaSettings
from schemas import aggregates, headers
from schemas import topics as names
from schemas.headers import Provenance
from tests.support.waiting import wait_for

Environment = dict[str, str]


def until(what: Callable[[], Any], within_s: float, why: Callable[[], str]) -> Any:
    """Poll until `what` is true; its value."""
    return wait_for(what, why, within_s)


class Worker:
    """`python -m MODULE OPTIONS`, started repeatedly; its log covers all runs."""

    def __init__(self, module: str, log: Path, environment: Environment) -> None:
        self.port = free()[0]
        self.module, self.log = module, log
        self.environment = os.environ | {"MILLRACE_HTTP_BIND": f"{LOOPBACK}:{self.port}"} | environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> "Worker":
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", self.module, *options]
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        return self

    def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Exit code."""
        assert self.process is not None
        assert self.process.poll() is None, f"it is gone already:\n{self.text()}"
        self.process.send_signal(number)
        return self.code()

    def code(self, within_s: float = 60.0) -> int:
        """Exit code, once it has ended by itself."""
        assert self.process is not None
        return self.process.wait(within_s)

    def clear(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def figure(self, name: str) -> float:
        """A metric of it; 0 while it is not there."""
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.port}/metrics", timeout=2) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return 0.0
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), 0.0)

    def text(self) -> str:
        return self.log.read_text()[-3_000:]


class Platform:
    """Topics of one run, `workers` that are cleared away at its end."""

    def __init__(self, bootstrap: str, folder: Path, partitions: int) -> None:
        self.settings, self.folder, self.partitions = KafkaSettings(kafka_bootstrap=bootstrap), folder, partitions
        topics.ensure(self.settings, topics.plans(partitions, 1), 1)
        self.producer = producer(self.settings, {"queue.buffering.max.kbytes": 1 << 20})
        self.reader = LogReader(self.settings)
        self.workers: list[Worker] = []

    def close(self) -> None:
        for worker in self.workers:
            worker.clear()
        self.reader.close()

    def worker(self, module: str, instance: str = "a", **more: str) -> Worker:
        environment = {
            "MILLRACE_KAFKA_BOOTSTRAP": self.settings.kafka_bootstrap,
            "MILLRACE_SNAPSHOT_INTERVAL_S": "0.5",
            "MILLRACE_SESSION_TIMEOUT_S": "6",
            "MILLRACE_INSTANCE": instance,
        }
        log = self.folder / f"{module}-{instance}.log"
        self.workers.append(Worker(module, log, environment | more))
        return self.workers[-1]

    def send(self, partition: int, told: list[tuple[str, bytes]], value: bytes) -> None:
        self.producer.produce(names.RAW, value, partition=partition, headers=told)
        self.producer.poll(0)

    def flush(self) -> None:
        assert self.producer.flush(60) == 0

    def ends(self, topic: str) -> list[int]:
        return [self.reader.bounds(topic, partition)[1] for partition in range(self.partitions)]

    def wait_moved(self, before: list[int], within_s: float = 60.0) -> None:
        """Until telemetry.aggregates is longer than it was: somebody is at work."""
        until(lambda: self.ends(names.AGGREGATES) > before, within_s, self.logs)

    def wait_done(self, within_s: float = 90.0) -> None:
        """Until the last raw record of each partition, a tick, has its record of telemetry.aggregates."""
        goal = [end - 1 for end in self.ends(names.RAW)]
        until(lambda: self._written() == goal, within_s, lambda: f"{self._written()} of {goal}\n{self.logs()}")

    def _written(self) -> list[int]:
        """The raw offset that the last record of each partition is for."""
        return [self._last(partition, end) for partition, end in enumerate(self.ends(names.AGGREGATES))]

    def _last(self, partition: int, end: int) -> int:
        if end == 0:
            return -1
        found = self.reader.record(names.AGGREGATES, partition, end - 1)
        return -1 if found is None else Provenance.parse(dict(found.headers() or ())).src

    def logs(self) -> str:
        return "\n".join(f"--- {worker.log.name}\n{worker.text()}" for worker in self.workers)

    # --- what is there

    def kept(self, topic: str, partition: int) -> Iterator[tuple[dict[str, bytes], bytes]]:
        """Headers and values as a reader takes them: what is not above the highest src is dropped, no gap is allowed,
        and a repeat must be the same bytes."""
        known: dict[int, bytes] = {}
        highest = -1
        for message in self._read(topic, partition):
            told, value = dict(message.headers() or ()), message.value() or b""
            found = Provenance.parse(told)
            if found.src <= highest:
                assert known[found.src] == value, f"{topic}/{partition}: {found} was written twice, differently"
                continue
            assert found.prev == highest, f"{topic}/{partition}: gap before {found}"
            known[found.src], highest = value, found.src
            yield told, value

    def _read(self, topic: str, partition: int) -> Iterator[Message]:
        yield from self.reader.records(topic, {partition: (OLDEST, NEWEST)})

    def partials(self, partition: int) -> tuple[pa.Table, dict[str, int]]:
        """(all rows of telemetry.aggregates of a partition, the counts of its records added up; `open` is the last)."""
        batches, counts = [], dict.fromkeys(aggregates.COUNTS, 0)
        for told, value in self.kept(names.AGGREGATES, partition):
            for name in counts:
                counts[name] = headers.number(told, name) + (counts[name] if name != "open" else 0)
            if value:
                batches.append(aggregates.read(told, value))
        return pa.Table.from_batches(batches, aggregates.SCHEMA).unify_dictionaries(), counts
