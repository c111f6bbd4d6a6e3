"""A bed for toy stages: topics, a feed, worker processes, and the truth, computed without the stage's code."""

import json
import math
import random
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from local.ports import free
from runtime.kafka import topics
from runtime.kafka.clients import producer
from runtime.kafka.log import LogReader
from runtime.settings import KafkaSettings
from schemas import topics as names
from schemas.headers import Provenance, raw_data, raw_tick
from tests.stage.nursery import Nursery

PARTITIONS = 4
WORDS = [f"word-{n}" for n in range(40)]
SESSION_S = 6.0

Kept = tuple[int, bytes]
"""(src, value) of an output record, repeats dropped."""


def until(what: Callable[[], Any], within_s: float, why: str) -> Any:
    """Poll until `what` is true; its value."""
    deadline = time.monotonic() + within_s
    while not (value := what()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {why}"
        time.sleep(0.05)
    return value


@dataclass
class Bed:
    """One broker and the topics of toy stages on it."""

    bootstrap: str
    folder: Path
    nursery: Nursery
    seed: int = 1
    poison: str = ""
    """The word that the stage is known to leave out."""
    second_from: list[int] | None = None
    """By partition, the raw offset from which on logic version 2 of the stage wrote; None: it never did."""
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings = KafkaSettings(kafka_bootstrap=self.bootstrap)
        self.random = random.Random(self.seed)
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap})
        self.producer: Producer = producer(self.settings)

    def make_topics(self, *stages: str, partitions: int = PARTITIONS) -> None:
        wanted = {plan.name: plan for plan in topics.plans(partitions, 1, stages=stages)}
        stream, state = wanted[names.RAW], wanted[names.state_topic(stages[0])]
        plans = [wanted[names.FACTS], wanted[names.CONTROL], stream]
        for stage in stages:
            plans += [topics.Plan(f"{stage}.{name}", partitions, stream.config) for name in ("out", "rare")]
            plans.append(topics.Plan(names.state_topic(stage), partitions, state.config))
        self.facts = topics.ensure(self.settings, plans, 1)

    def virgin(self, *stages: str) -> None:
        """The same with telemetry.raw re-created: a new topic id, a new epoch, offsets from 0."""
        self.delete(names.RAW)
        self.make_topics(*stages)

    def delete(self, topic: str) -> None:
        if topic in self.admin.list_topics(timeout=10).topics:
            self.admin.delete_topics([topic])[topic].result(20)
            until(lambda: topic not in self.admin.list_topics(timeout=10).topics, 20, f"{topic} is deleted")

    def create(self, topic: str) -> None:
        """Made by hand, past the platform."""
        self.admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(20)

    def lose(self, topic: str, before: int) -> None:
        """What retention does: delete records below an offset, in all partitions."""
        where = [TopicPartition(topic, p, before) for p in range(PARTITIONS)]
        for deleted in self.admin.delete_records(where).values():
            deleted.result(20)

    def put(self, topic: str, partition: int, value: bytes | None, **more: Any) -> None:
        """Write what no stage of ours wrote."""
        self.producer.produce(topic, value, partition=partition, **more)
        assert self.producer.flush(20) == 0

    # --- feeding

    def feed(self, records: int, ticks: int = 4) -> None:
        """Data records to random partitions, then ticks to all."""
        for _ in range(records):
            words = [self.random.choice(WORDS) for _ in range(self.random.randrange(5))]
            self._raw(self.random.randrange(PARTITIONS), json.dumps(words).encode(), raw_data(len(words)))
        for time_ms in range(ticks):
            for partition in range(PARTITIONS):
                self._raw(partition, b"", raw_tick(time_ms))
        assert self.producer.flush(20) == 0

    def _raw(self, partition: int, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        self.producer.produce(names.RAW, value=value, partition=partition, headers=headers)
        self.producer.poll(0)

    def feeding(self, per_second: float) -> "Feeding":
        """Feeds until the block ends."""
        return Feeding(self, per_second)

    # --- reading

    def ends(self, topic: str) -> list[int]:
        with LogReader(self.settings) as log:
            return [log.bounds(topic, p)[1] for p in range(PARTITIONS)]

    def read(self, topic: str, partition: int, newest: int | None = None) -> Iterator[Message]:
        """All records, or the `newest` so many."""
        with LogReader(self.settings) as log:
            low, high = log.bounds(topic, partition)
            low = low if newest is None else max(low, high - newest)
            yield from log.records(topic, {partition: (low, high)})

    def committed(self, stage: str, source: str = names.RAW) -> list[int]:
        """Offsets of the stage's group; -1 where there is none; empty while Kafka does not answer."""
        asked = ConsumerGroupTopicPartitions(stage, [TopicPartition(source, p) for p in range(PARTITIONS)])
        try:
            answer = self.admin.list_consumer_group_offsets([asked], request_timeout=3)[stage].result(10)
        except (KafkaException, TimeoutError):  # librdkafka's admin client does not find a restarted coordinator again
            self.admin = AdminClient({"bootstrap.servers": self.bootstrap})
            return []
        return [max(-1, tp.offset) for tp in sorted(answer.topic_partitions, key=lambda tp: tp.partition)]

    def wait_applied(self, stage: str, source: str = names.RAW, within_s: float = 60.0) -> None:
        """Until the stage's snapshots cover the source."""
        ends = self.ends(source)
        until(
            lambda: [max(0, offset) for offset in self.committed(stage, source)] == ends,
            within_s,
            f"{stage} applies {source} up to {ends}",
        )

    def newest(self, topic: str, partition: int) -> tuple[int, int]:
        """(epoch, src) of the last record."""
        for last in self.read(topic, partition, newest=1):
            found = Provenance.parse(dict(last.headers() or ()))
            return found.epoch, found.src
        return -1, -1

    def wait_written(self, topic: str, source: str, within_s: float = 30.0) -> None:
        """Until the toy has written an output for the last record of its source."""
        ends = self.ends(source)
        until(
            lambda: [self.newest(topic, p)[1] + 1 for p in range(PARTITIONS)] == ends, within_s, f"outputs up to {ends}"
        )

    # --- truth

    def kept(self, topic: str, partition: int) -> tuple[list[Kept], int]:
        """Outputs as a reader takes them: what is not above the highest src is dropped and counted; no gap is allowed;
        a repeat must be the same bytes."""
        kept: dict[int, bytes] = {}
        highest, repeats = -1, 0
        for message in self.read(topic, partition):
            found = Provenance.parse(dict(message.headers() or ()))
            value = message.value() or b""
            if found.src <= highest:
                assert kept[found.src] == value, f"{topic}/{partition}: src {found.src} was written twice, differently"
                repeats += 1
                continue
            assert found.prev == highest, f"{topic}/{partition}: gap before src {found.src}: {found}"
            kept[found.src], highest = value, found.src
        return list(kept.items()), repeats

    def truth(self, source: list[tuple[int, bytes, bytes]], second: float) -> tuple[list[Kept], list[Kept]]:
        """What the toy must write for a partition: (src, kind, value) in, (src, value) of both topics out. Version 2,
        from src `second` on, writes twice the counts."""
        totals: dict[str, int] = {}
        out, rare = [], []
        for src, kind, value in source:
            if kind == b"tick":
                out.append((src, str(sum(totals.values())).encode()))
                continue
            words = [word for word in json.loads(value) if word != self.poison]
            for word in words:
                totals[word] = totals.get(word, 0) + 1
            now = {word: totals[word] * (2 if src >= second else 1) for word in words}
            out.append((src, json.dumps(now, separators=(",", ":")).encode()))
            fives = [word for word in now if now[word] % 5 == 0]
            if fives:
                rare.append((src, json.dumps(fives, separators=(",", ":")).encode()))
        return out, rare

    def check(self, stage: str, after: str | None = None) -> str:
        """Assert that outputs, repeats dropped, equal the truth. `after`: the toy stage whose output this one reads.
        Returns a line for people."""
        records = repeats = 0
        for partition in range(PARTITIONS):
            source = self._source(partition, after)
            second = math.inf if self.second_from is None else self.second_from[partition]
            want_out, want_rare = self.truth(source, second)
            for topic, want in ((f"{stage}.out", want_out), (f"{stage}.rare", want_rare)):
                got, again = self.kept(topic, partition)
                assert len(got) == len(want), f"{topic}/{partition}: {len(got)} records, truth has {len(want)}"
                assert got == want
                records, repeats = records + len(got), repeats + again
        assert records > 0
        return f"{stage}: {records} output records as the truth, {repeats} repeats dropped, 0 lost, 0 doubled"

    def _source(self, partition: int, after: str | None) -> list[tuple[int, bytes, bytes]]:
        if after is None:
            return [
                (m.offset() or 0, dict(m.headers() or ())["kind"], m.value() or b"")
                for m in self.read(names.RAW, partition)
            ]
        kinds = {}
        for message in self.read(f"{after}.out", partition):
            headers = dict(message.headers() or ())
            kinds[Provenance.parse(headers).src] = headers["kind"]
        return [(src, kinds[src], value) for src, value in self.kept(f"{after}.out", partition)[0]]


class Feeding:
    """A thread that feeds at a rate."""

    def __init__(self, bed: Bed, per_second: float) -> None:
        self.bed, self.pause_s, self.over = bed, 10 / per_second, threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self.over.wait(self.pause_s):
            self.bed.feed(10, ticks=0)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self.bed.feed(4)


class Worker:
    """A toy worker process. Its log is a file; `ready` asks its probe."""

    def __init__(self, bed: Bed, stage: str, options: tuple[str, ...], environment: dict[str, str]) -> None:
        self.port = free()[0]
        settings = {
            "MILLRACE_KAFKA_BOOTSTRAP": bed.bootstrap,
            "MILLRACE_HTTP_BIND": f"127.0.0.1:{self.port}",
            "MILLRACE_SNAPSHOT_INTERVAL_S": "0.3",
            "MILLRACE_SESSION_TIMEOUT_S": str(SESSION_S),
            "TOY_NAME": stage,
        } | environment
        self.log = bed.folder / f"{stage}-{settings.get('MILLRACE_INSTANCE', '0')}.log"
        self.log.touch()
        self.begin = self.log.stat().st_size
        self.process = bed.nursery.start(list(options), settings, self.log)

    def text(self) -> str:
        """What it has logged."""
        return self.log.read_bytes()[self.begin :].decode()

    def wait_ready(self, within_s: float = 40.0) -> "Worker":
        until(lambda: self.process.poll() is not None or self.ready(), within_s, f"ready; its log:\n{self.text()}")
        assert self.process.poll() is None, self.text()
        return self

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def figure(self, name: str) -> float:
        """A metric of it; 0 while it is not there."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), 0.0)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, within_s: float = 30.0) -> float:
        """SIGTERM; seconds until it was gone. It must leave with 0."""
        begin = time.monotonic()
        self.process.terminate()
        code = self.process.wait(within_s)
        assert code == 0, f"left with {code}:\n{self.text()}"
        return time.monotonic() - begin

    def code(self, within_s: float = 30.0) -> int:
        """Exit code, once it has ended by itself."""
        return self.process.wait(within_s)
