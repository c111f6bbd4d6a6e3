"""The relay against a real Kafka."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from control.relay.app import Loop
from control.relay.relay import Relay
from control.relay.settings import RelaySettings
from runtime.kafka import clients, topics
from runtime.probes import Probes
from runtime.settings import KafkaSettings
from runtime.tasks import in_thread
from schemas import topics as names
from schemas.control import FORMAT, FORMAT_HEADER, POLICY_KEY, Device, device_key
from schemas.headers import Version
from schemas.partition import partition_of
from schemas.vocabulary import Kind
from tests.bridge.conftest import PARTITIONS
from tests.bridge.processes import Service
from tests.bridge.raw_reader import RawReader, RawRecord
from tests.servers import KafkaServer
from tests.support.waiting import WITHIN_S, wait_for_async


@pytest.fixture
def settings(spine: KafkaServer) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap=spine.bootstrap)


@pytest.fixture
def relay(spine: KafkaServer, tmp_path: Path) -> Iterator[Service]:
    service = Service("control.relay", tmp_path, kafka_bootstrap=spine.bootstrap, tick_ms=100)
    yield service
    service.kill()


def _tell(settings: KafkaSettings, *records: tuple[str, bytes]) -> None:
    producer = clients.producer(settings)
    for key, value in records:
        producer.produce(names.CONTROL, key=key, value=value, headers=[(FORMAT_HEADER, FORMAT)])
    assert producer.flush(10) == 0


def _controls(raw: RawReader) -> list[RawRecord]:
    return [r for r in raw.records if r.kind is Kind.CONTROL]


def _ticks(raw: RawReader) -> list[RawRecord]:
    return [r for r in raw.records if r.kind is Kind.TICK]


def _key(record: RawRecord) -> str:
    return record.headers["key"].decode()


def test_decisions_reach_the_stream_in_order_without_tokens_and_once(
    relay: Service, settings: KafkaSettings, raw: RawReader
) -> None:
    relay.start()
    raw.until(lambda: len(_ticks(raw)) >= PARTITIONS)
    already = len(_controls(raw))
    policies = [(POLICY_KEY, b'{"roles":{},"unknown":null,"n":%d}' % n) for n in range(5)]
    devices = [(device_key(f"d-{n}"), Device(f"d-{n}", "motor", token="5ec4e7").encode()) for n in range(5)]
    _tell(settings, *[record for pair in zip(policies, devices, strict=True) for record in pair])
    raw.until(lambda: len(_controls(raw)) >= already + 5 * PARTITIONS + 5)
    found = _controls(raw)[already:]
    assert b"5ec4e7" not in b"".join(r.value for r in found)
    for partition in range(PARTITIONS):
        mine = [r for r in found if r.partition == partition]
        versions = [Version.parse(r.headers["version"]) for r in mine]
        assert versions == sorted(set(versions))
        assert [orjson.loads(r.value)["n"] for r in mine if _key(r) == POLICY_KEY] == list(range(5))
    for record in found:
        if _key(record) != POLICY_KEY:
            assert record.partition == partition_of(_key(record)[7:].encode(), PARTITIONS)
    assert relay.stop() == 0
    relay.start()
    seen = len(_ticks(raw))
    raw.until(lambda: len(_ticks(raw)) >= seen + PARTITIONS)
    assert len(_controls(raw)) == already + len(found), "what was committed is not relayed again"


def test_ticks_tell_every_partition_the_time(relay: Service, raw: RawReader) -> None:
    relay.start()
    raw.until(lambda: len(_ticks(raw)) >= 5 * PARTITIONS)
    for partition in range(PARTITIONS):
        mine = [r for r in _ticks(raw) if r.partition == partition]
        times = [int(r.headers["time"]) for r in mine]
        assert times == sorted(times) and len(times) >= 4
        assert all(abs(r.appended_at_ms - int(r.headers["time"])) < 2_000 and r.value == b"" for r in mine)


def test_a_killed_relay_leaves_nothing_out(relay: Service, settings: KafkaSettings, raw: RawReader) -> None:
    keys = []
    for n in range(4):
        relay.start(ready=False)
        names_ = [f"k-{n}-{i}" for i in range(50)]
        _tell(settings, *[(device_key(name), Device(name, "meter").encode()) for name in names_])
        keys += [device_key(name) for name in names_]
        time.sleep(0.25 * n)  # kill it at different points of its start and work
        relay.kill()
    relay.start()
    raw.until(lambda: set(keys) <= {_key(r) for r in _controls(raw)})
    for partition in range(PARTITIONS):
        seen: dict[str, Version] = {}
        for record in _controls(raw):
            if record.partition == partition:
                seen.setdefault(_key(record), Version.parse(record.headers["version"]))
        assert list(seen.values()) == sorted(seen.values()), "first arrivals are in order"


def test_a_tick_is_withheld_while_our_clock_is_off(settings: KafkaSettings, raw: RawReader) -> None:
    off_ms = 10_000
    facts = topics.facts(settings, names.CONTROL, names.RAW)
    own: Any = RelaySettings(kafka_bootstrap=settings.kafka_bootstrap, tick_ms=50)
    relay = Relay(own, facts[names.CONTROL], facts[names.RAW], wall_ms=lambda: time.time_ns() // 1_000_000 + off_ms)
    relay.open()
    try:
        _step_for(relay, 0.7)
        raw.settle()
        assert _ticks(raw) == []
        off_ms = 0
        _step_for(relay, 0.7)
        raw.until(lambda: len(_ticks(raw)) >= PARTITIONS)
        off_ms = -3_600_000
        _step_for(relay, 0.3)
        raw.settle()
        assert all(abs(r.appended_at_ms - int(r.headers["time"])) < 2_000 for r in _ticks(raw))
    finally:
        relay.close()


def test_a_relay_whose_thread_hangs_is_not_live_though_the_event_loop_runs(settings: KafkaSettings) -> None:
    hang, go_on = threading.Event(), threading.Event()

    def wall_ms() -> int:
        if hang.is_set():
            go_on.wait()
        return time.time_ns() // 1_000_000

    async def hangs() -> None:
        facts = await in_thread(topics.facts, settings, names.CONTROL, names.RAW)
        own: Any = RelaySettings(kafka_bootstrap=settings.kafka_bootstrap, tick_ms=50)
        beat = probes.worker("relay", 3.0)
        loop = Loop(Relay(own, facts[names.CONTROL], facts[names.RAW], beat, wall_ms), 10.0)
        await loop.start()
        try:
            await wait_for_async(lambda: loop.wrong() is None and not probes.wrong(False), "the relay to be live")
            hang.set()
            await wait_for_async(lambda: "relay" in probes.wrong(False), "/health/live to notice the thread")
            go_on.set()
            await wait_for_async(lambda: not probes.wrong(False), "the relay to be live again")
        finally:
            go_on.set()
            await loop.stop()

    probes = Probes("127.0.0.1:0", silence_s=WITHIN_S)
    probes.start()
    try:
        asyncio.run(hangs())
    finally:
        probes.stop()


def _step_for(relay: Relay, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        relay.step()
