"""The running service against a real Kafka: policies by the command, kill -9, and every byte as the core says."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import Message, TopicPartition

from cli.policy import policy as policy_command
from local.ports import free
from runtime.kafka import topics
from runtime.kafka.clients import consumer, producer
from runtime.settings import KafkaSettings
from runtime.stage.contract import Record
from schemas import topics as names
from schemas.control import POLICY_KEY
from schemas.headers import Provenance, kind_of
from streams.access.core.stage import AccessStage
from streams.access.policy import check, decode, shipped
from tests.access.support import control, data, message, tick
from tests.access.test_verdicts import World
from tests.servers import KafkaServer

PARTITIONS = 2


def until(what: Callable[[], Any], within_s: float, why: str) -> Any:
    deadline = time.monotonic() + within_s
    while not (value := what()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {why}"
        time.sleep(0.05)
    return value


class Platform:
    """A broker with the topics of the platform, and access processes on it."""

    def __init__(self, server: KafkaServer, folder: Path) -> None:
        self.settings = KafkaSettings(kafka_bootstrap=server.bootstrap)
        topics.ensure(self.settings, topics.plans(PARTITIONS, 1), 1)
        self.producer = producer(self.settings)
        self.log = folder / "access.log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.port = 0

    def start(self) -> None:
        self.port = free()[0]
        environment = {
            "MILLRACE_KAFKA_BOOTSTRAP": self.settings.kafka_bootstrap,
            "MILLRACE_HTTP_BIND": f"127.0.0.1:{self.port}",
            "MILLRACE_SNAPSHOT_INTERVAL_S": "0.5",
            "MILLRACE_SESSION_TIMEOUT_S": "6",
        }
        with self.log.open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "streams.access"], env=os.environ | environment, stdout=log, stderr=log
            )
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

    def send(self, partition: int, record: Record) -> None:
        headers = list(record.headers.items())
        self.producer.produce(names.RAW, record.value, partition=partition, headers=headers)
        self.producer.poll(0)

    def read(self, topic: str, partition: int) -> Iterator[Message]:
        reader = consumer(self.settings, "test", more={"enable.partition.eof": True})
        try:
            where = TopicPartition(topic, partition)
            low, high = reader.get_watermark_offsets(where, timeout=10)
            reader.assign([TopicPartition(topic, partition, low)])
            while low < high:
                for found in reader.consume(500, 0.5):
                    assert not found.error() or found.error().name() == "_PARTITION_EOF"
                    if not found.error():
                        low = (found.offset() or 0) + 1
                        yield found
        finally:
            reader.close()

    def high(self, topic: str, partition: int) -> int:
        reader = consumer(self.settings, "test")
        try:
            return int(reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1])
        finally:
            reader.close()


@pytest.fixture(scope="module")
def platform(kafka_fresh: Callable[[], KafkaServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    found = Platform(kafka_fresh(), tmp_path_factory.mktemp("access"))
    try:
        yield found
    finally:
        for process in found.processes:
            process.kill()
            process.wait(10)


def as_record(found: Message, partition: int) -> Record:
    headers = dict(found.headers() or ())
    offset = found.offset() or 0
    return Record(partition, offset, 0, offset, kind_of(headers), headers, found.value() or b"")


def test_metrics_name_verdicts_and_rules(platform: Platform) -> None:
    platform.send(0, control(0, "policy", check(shipped("loopback"), "t").encode()))
    rows = [message("s-1", '{"a":1}', boot="1", seq="0")] * 2 + [message("s-1", "{")]
    rows.append(message("s-1", '{"a":1}') | {"topic": "d/other/telemetry/x"})
    rows += [message("s-1", "", transport=2) | {"topic": topic} for topic in ("p/s-1/connected", "p/s-2/connected")]
    platform.send(0, data(1, rows))
    platform.send(0, tick(2, 1000))
    assert platform.producer.flush(20) == 0
    platform.start()
    until(lambda: platform.high(names.READINGS, 0) == 3, 30, "answers")
    for verdict in ("accepted", "denied", "dead_letter", "duplicate"):
        assert platform.metric(f'millrace_access_messages_total{{verdict="{verdict}"}}') == 1
    for rule in ("json", "topic"):
        assert platform.metric(f'millrace_access_refused_total{{rule="{rule}"}}') == 1
    assert platform.metric("millrace_access_readings_total") == 1
    assert platform.metric("millrace_access_events_total") == platform.metric("millrace_access_untold_total") == 1
    assert platform.metric("millrace_access_delay_seconds_count") == 1
    assert platform.end(signal.SIGTERM) == 0, platform.log.read_text()


def test_each_raw_record_has_one_answer_the_cores_own_through_kills(platform: Platform) -> None:
    worlds = [World(seed) for seed in range(PARTITIONS)]

    def send(count: int) -> None:
        for _ in range(count):
            for partition, world in enumerate(worlds):
                platform.send(partition, world.record()[0])
        assert platform.producer.flush(20) == 0

    def answered(count: int) -> bool:
        return all(platform.high(names.READINGS, p) >= count for p in range(PARTITIONS))

    def behind() -> int:
        """Partitions of which some record has no answer yet."""
        return sum(len(answers_of(platform, p)) < platform.high(names.RAW, p) for p in range(PARTITIONS))

    send(40)
    platform.start()
    until(lambda: answered(20), 30, "answers before the kill")
    platform.end(signal.SIGKILL)
    send(40)
    platform.start()
    send(40)
    until(lambda: platform.metric("millrace_access_messages_total") > 0, 30, "work after the kill")
    assert platform.end(signal.SIGTERM) == 0, platform.log.read_text()
    send(20)
    platform.start()
    until(lambda: not behind(), 60, "all answers")
    for partition in range(PARTITIONS):
        state = AccessStage().create(partition)
        answers = answers_of(platform, partition)
        raws = list(platform.read(names.RAW, partition))
        assert [src for src, _, _ in answers] == [m.offset() for m in raws] == list(range(len(raws)))
        for raw, (_, value, headers) in zip(raws, answers, strict=True):
            (expected,) = state.apply(as_record(raw, partition))
            assert value == expected.value
            assert headers == dict(expected.headers)


def answers_of(platform: Platform, partition: int) -> list[tuple[int, bytes, dict[str, bytes]]]:
    """(src, value, headers without provenance) as a reader takes them: repeats dropped, no gap."""
    found: list[tuple[int, bytes, dict[str, bytes]]] = []
    highest = -1
    for one in platform.read(names.READINGS, partition):
        headers = dict(one.headers() or ())
        where = Provenance.parse(headers)
        if where.src > highest:
            assert where.prev == highest
            highest = where.src
            rest = {key: value for key, value in headers.items() if key not in ("src", "prev")}
            found.append((where.src, one.value() or b"", rest))
    return found


def test_a_policy_is_checked_published_and_shown_by_the_command(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = platform.settings
    monkeypatch.setenv("MILLRACE_KAFKA_BOOTSTRAP", settings.kafka_bootstrap)
    run = CliRunner().invoke
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(shipped("loopback"))
    bad.write_text("roles:\n  a: {publish: [x], rate: fast}\nunknown: b\n")
    data = ["--data", str(tmp_path)]

    assert run(policy_command, ["check", str(good)]).exit_code == 0
    applied = run(policy_command, ["apply", str(good), *data])
    assert applied.exit_code == 0, applied.output
    offset, value = topics.read_control(settings)[POLICY_KEY]
    assert f"policy 0/{offset} published" in applied.output
    assert decode(value) == check(shipped("loopback"), "loopback")

    for verb in (["check", str(bad)], ["apply", str(bad), *data]):
        refused = run(policy_command, verb)
        assert refused.exit_code == 1
        for line in (f"{bad}:2: role a: publish", f"{bad}:2: role a: rate", f"{bad}:3: unknown: 'b'", "3 mistakes"):
            assert line in refused.output
    assert topics.read_control(settings)[POLICY_KEY] == (offset, value), "a bad one changes nothing"

    shown = run(policy_command, ["show", *data])
    assert f"# policy 0/{offset}" in shown.output
    assert check(shown.output, "shown") == decode(value), "what is shown can be applied"
