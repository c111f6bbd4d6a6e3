"""A stage's running service against a real Kafka: start it, kill it, read what it wrote."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import Message

from local.ports import free
from runtime.kafka import topics
from runtime.kafka.clients import producer
from runtime.kafka.log import NEWEST, OLDEST, LogReader
from runtime.settings import KafkaSettings
from runtime.stage.contract import Record
from schemas.headers import Provenance, kind_of, table
from schemas.topics import RAW
from tests.servers import KafkaServer
from tests.support.waiting import wait_for


def until(what: Callable[[], Any], within_s: float, why: str) -> Any:
    return wait_for(what, why, within_s)


class StageService:
    """A broker with the topics of the platform, and processes of one stage on it. Records are written as whoever is
    before it would: by a stage, for which offsets of the raw topic count up by one, or by the bridge."""

    def __init__(self, server: KafkaServer, folder: Path, stage: str, source: str, partitions: int) -> None:
        self.settings = KafkaSettings(kafka_bootstrap=server.bootstrap)
        topics.ensure(self.settings, topics.plans(partitions, 1), 1)
        self.producer = producer(self.settings, {"linger.ms": 1})
        self.stage, self.source, self.partitions = stage, source, partitions
        self.log = folder / f"{stage}.log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.port = 0

    # --- the process

    def start(self) -> None:
        self.port = free()[0]
        environment = {
            "MILLRACE_KAFKA_BOOTSTRAP": self.settings.kafka_bootstrap,
            "MILLRACE_HTTP_BIND": f"127.0.0.1:{self.port}",
            "MILLRACE_SNAPSHOT_INTERVAL_S": "0.5",
            "MILLRACE_SESSION_TIMEOUT_S": "6",
        }
        code = [sys.executable, "-m", f"streams.{self.stage}"]
        with self.log.open("a") as log:
            process = subprocess.Popen(code, env=os.environ | environment, stdout=log, stderr=log)
        self.processes.append(process)
        until(lambda: process.poll() is not None or self.ready(), 60, f"ready\n{self.log.read_text()}")

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def end(self, number: signal.Signals) -> int:
        self.processes[-1].send_signal(number)
        return self.processes[-1].wait(40)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(10)

    # --- topics

    def send(self, partition: int, record: Record) -> None:
        headers = list(record.headers.items())
        if self.source != RAW:
            headers += Provenance(record.epoch, record.src, record.src - 1).encode()
        self.producer.produce(self.source, record.value, partition=partition, headers=headers)
        self.producer.poll(0)

    def flush(self) -> None:
        assert self.producer.flush(20) == 0

    def read(self, topic: str, partition: int) -> Iterator[Message]:
        with LogReader(self.settings) as log:
            yield from log.records(topic, {partition: (OLDEST, NEWEST)})

    def high(self, topic: str, partition: int) -> int:
        """The offset that the next record will have."""
        with LogReader(self.settings) as log:
            return log.bounds(topic, partition)[1]

    def written(self, topic: str, partition: int) -> list[tuple[int, Message]]:
        """(src, record) as a reader takes them: repeats dropped, no gap."""
        found: list[tuple[int, Message]] = []
        highest = -1
        for one in self.read(topic, partition):
            where = Provenance.parse(table(one.headers()))
            if where.src > highest:
                assert where.prev == highest, "a gap"
                highest = where.src
                found.append((where.src, one))
        return found


def as_record(found: Message, partition: int) -> Record:
    """A record of the source as the frame hands it over."""
    headers = table(found.headers())
    where = Provenance.parse(headers)
    return Record(
        partition, found.offset() or 0, where.epoch, where.src, kind_of(headers), headers, found.value() or b""
    )


def without_provenance(found: Message) -> list[tuple[str, bytes]]:
    return [(key, value) for key, value in found.headers() or () if key not in ("src", "prev")]
