"""The running service, behind real devices, mosquitto, bridge, relay, access and Kafka; and through kill -9."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from runtime.kafka import clients
from schemas import presence
from schemas.control import POLICY_KEY
from schemas.headers import number, table
from schemas.partition import partition_of
from schemas.topics import CONTROL, PRESENCE, READINGS
from streams.access.policy import check as check_policy
from streams.access.policy import shipped
from streams.presence.core.stage import PresenceStage
from streams.presence.core.state import SETTINGS
from streams.presence.rules import check
from tests.bridge.processes import Service
from tests.presence.scenario import Scenario
from tests.servers import KafkaServer, MosquittoServer
from tests.support.service import StageService, as_record, until, without_provenance

PARTITIONS = 2
RULES = "{silence: {factor: 2, least: 9s, unknown: 1h, standstill: 3s}, settle: 1s}"


@pytest.fixture
def service(kafka_fresh: Callable[[], KafkaServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageService]:
    found = StageService(kafka_fresh(), tmp_path_factory.mktemp("presence"), "presence", READINGS, PARTITIONS)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def platform(service: StageService, mosquitto: MosquittoServer, tmp_path: Path) -> Iterator[StageService]:
    """The presence service with all that is before it: what devices say at `mosquitto.port` arrives."""
    kafka = {"kafka_bootstrap": service.settings.kafka_bootstrap}
    bridge = {
        "mqtt_url": mosquitto.bridge_url,
        "mqtt_user": mosquitto.bridge_user,
        "mqtt_password_file": mosquitto.bridge_password_file,
    }
    producer = clients.producer(service.settings)
    producer.produce(CONTROL, key=POLICY_KEY, value=check_policy(shipped("loopback"), "t").encode())
    producer.produce(CONTROL, key=SETTINGS, value=check(RULES, "t").encode())
    assert producer.flush(10) == 0
    with (
        Service("streams.access", tmp_path, **kafka, session_timeout_s=6) as access,
        Service("bridge.mqtt", tmp_path, **kafka, **bridge) as mqtt,
        Service("control.relay", tmp_path, **kafka) as relay,
    ):
        for one in (relay, access, mqtt):
            one.start()
        service.start()
        until(lambda: service.written(PRESENCE, 0), 30, "the first tick")
        yield service


TICK_S = 1.0
"""Of the relay: stream time stands between ticks."""


class Device:
    """Speaks MQTT 5 with a will, and may be cut off without a word."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.port = name, port
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5)
        self._client.will_set(f"d/{name}/event/offline", b"{}", 1)
        self._stop = threading.Event()
        self._speech: threading.Thread | None = None

    def connect(self) -> "Device":
        self._client.connect("127.0.0.1", self.port)
        self._client.loop_start()
        return self

    def say(self) -> None:
        self._client.publish(f"d/{self.name}/telemetry/climate", b'{"temperature":20}', 1).wait_for_publish(20)

    def chatter(self) -> "Device":
        """Speaks four times a second until `hush`."""

        def speak() -> None:
            while not self._stop.wait(0.25):
                self.say()

        self._speech = threading.Thread(target=speak)
        self._speech.start()
        return self

    def hush(self) -> None:
        self._stop.set()
        if self._speech is not None:
            self._speech.join()

    def goodbye(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def die(self) -> None:
        """As when its process is killed: the socket closes, nothing is said."""
        self._client.loop_stop()
        found = self._client.socket()
        assert found is not None
        found.close()  # type: ignore[no-untyped-call]


def rows_of(service: StageService, device: str) -> list[dict[str, Any]]:
    """All rows written for a device, duplicates dropped."""
    found = []
    for _, one in service.written(PRESENCE, partition_of(device.encode(), PARTITIONS)):
        headers = table(one.headers())
        if number(headers, "rows"):
            found += presence.read(headers, one.value() or b"").to_pylist()
    return [row for row in found if row["device"] == device]


def told_of(service: StageService, device: str) -> list[tuple[str, str]]:
    return [(row["state"], row["reason"]) for row in rows_of(service, device)]


def test_devices_come_go_fall_silent_and_come_back(platform: StageService, mosquitto: MosquittoServer) -> None:
    came, lost, silent = ("online", "connected"), ("offline", "disconnected"), ("offline", "silence")
    with contextlib.ExitStack() as stack:
        steady, quiet, dies = (Device(name, mosquitto.port).connect() for name in ("steady", "quiet", "dies"))
        stack.callback(steady.goodbye)
        stack.callback(steady.hush)
        stack.callback(quiet.hush)
        steady.chatter()
        quiet.chatter()
        dies.say()
        until(lambda: told_of(platform, "dies") == [came], 20, "the connect")
        until(lambda: told_of(platform, "steady") == told_of(platform, "quiet") == [came], 20, "the others")
        dies.die()
        until(lambda: told_of(platform, "dies") == [came, lost], 20, "its end")
        time.sleep(9)  # so that a usual gap is known of those who chatter

        platform.end(signal.SIGKILL)
        again = Device("dies", mosquitto.port).connect()  # while nobody looks
        again.say()
        platform.start()
        until(lambda: told_of(platform, "dies") == [came, lost, came], 40, "its return")

        quiet.hush()  # and stays connected
        until(lambda: told_of(platform, "quiet") == [came, silent], 40, "the silence")
        row = rows_of(platform, "quiet")[-1]
        assert row["since"] == row["last_seen"] and row["expected_s"] >= 9
        # it was heard at the tick before its last message was received: so much earlier it may be written
        assert (row["time"] - row["since"]).total_seconds() >= row["expected_s"] - TICK_S
        quiet.say()
        until(lambda: told_of(platform, "quiet")[2:] == [("online", "telemetry")], 20, "its word")

        platform.end(signal.SIGKILL)
        quiet.goodbye()
        again.goodbye()
        platform.start()
        until(lambda: told_of(platform, "dies") == [came, lost, came, lost], 40, "its goodbye")
        until(lambda: told_of(platform, "quiet")[3:] == [lost], 20, "the other's")
        assert told_of(platform, "steady") == [came], "it was there all the time"
    assert platform.end(signal.SIGTERM) == 0, platform.log.read_text()
    for partition in range(PARTITIONS):
        _is_what_the_core_tells(platform, partition)


@pytest.mark.long
def test_it_tells_what_the_core_tells_through_kills_and_nothing_twice(service: StageService) -> None:
    scenarios = [Scenario(seed) for seed in range(PARTITIONS)]

    def send(count: int) -> None:
        for partition, scenario in enumerate(scenarios):
            for _ in range(count):
                service.send(partition, scenario.record()[0])
        service.flush()

    send(200)
    service.start()
    until(lambda: service.metric("millrace_presence_changes_total") > 0, 30, "work before the kill")
    service.end(signal.SIGKILL)
    send(200)
    service.start()
    send(200)
    until(lambda: service.metric("millrace_presence_changes_total") > 0, 30, "work after the kill")
    service.end(signal.SIGKILL)
    service.start()
    for partition, scenario in enumerate(scenarios):  # a last tick is answered when all is
        record = None
        while record is None or record.kind != "tick":
            record = scenario.record()[0]
            service.send(partition, record)
    service.flush()
    until(lambda: all(_answered(service, p) == scenarios[p].offset for p in range(PARTITIONS)), 60, "all answers")
    assert service.metric("millrace_presence_refused_total") >= 0
    assert service.end(signal.SIGTERM) == 0, service.log.read_text()
    for partition in range(PARTITIONS):
        _is_what_the_core_tells(service, partition)


def _answered(service: StageService, partition: int) -> int:
    written = service.written(PRESENCE, partition)
    return written[-1][0] if written else -1


def _is_what_the_core_tells(service: StageService, partition: int) -> None:
    """Each record that the service wrote, and no other, as the core makes it of the same log."""
    state = PresenceStage().create(partition)
    written = dict(service.written(PRESENCE, partition))
    expected, last = 0, max(written)
    for found in service.read(READINGS, partition):
        record = as_record(found, partition)
        if record.src > last:
            break  # came after the service was stopped
        for output in state.apply(record):
            one = written.pop(record.src)
            assert (one.value() or b"") == output.value
            assert without_provenance(one) == list(output.headers)
            expected += 1
    assert expected > 20 and not written, "nothing more, nothing twice"
