"""A command that returned is in force: at once for HTTP, or it says which reader has not applied it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from identity.registry.store import DeviceRegistry
from local.ports import free
from runtime.kafka import applied, clients
from runtime.settings import KafkaSettings
from schemas.control import Device
from tests.bridge.http.client import Device as Client
from tests.bridge.processes import Service
from tests.servers import KafkaServer
from tests.support.service import until

WAIT_S = 60.0


@pytest.fixture
def settings(spine: KafkaServer) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap=spine.bootstrap)


@pytest.fixture
def admin(settings: KafkaSettings) -> AdminClient:
    return clients.admin(settings)


@pytest.fixture
def services(spine: KafkaServer, tmp_path: Path) -> Iterator[tuple[Service, Service, int]]:
    (listen,) = free()
    relay = Service("control.relay", tmp_path, kafka_bootstrap=spine.bootstrap, instance="r")
    http = Service("bridge.http", tmp_path, kafka_bootstrap=spine.bootstrap, listen=f"127.0.0.1:{listen}", instance="h")
    try:
        relay.start()
        http.start()
        yield relay, http, listen
    finally:
        for service in (relay, http):
            if service.process is not None and service.process.poll() is None:
                service.process.send_signal(signal.SIGCONT)
            service.kill()


def live(admin: AdminClient) -> set[str]:
    return {reader.name for reader in applied.readers(admin)}


def test_a_device_that_was_enrolled_is_never_answered_401_and_a_late_reader_is_named(
    settings: KafkaSettings, admin: AdminClient, services: tuple[Service, Service, int]
) -> None:
    relay, http, listen = services
    until(lambda: {"relay.r", "bridge-http.h"} <= live(admin), WAIT_S, "both publish what they have applied")
    registry = DeviceRegistry(settings)
    for n in range(10):
        name = f"now-{n}"
        token = registry.register([Device(name, "meter")])[name]
        assert applied.behind(settings, registry.written, WAIT_S) == []
        with Client(listen, name, token) as device:
            assert device.post(b"{}").status != 401
    assert relay.process is not None
    os.kill(relay.process.pid, signal.SIGSTOP)
    registry.register([Device("late", "meter")])
    assert [reader.name for reader in applied.behind(settings, registry.written, 0.5)] == ["relay.r"]
    os.kill(relay.process.pid, signal.SIGCONT)
    assert applied.behind(settings, registry.written, WAIT_S) == []
    assert http.stop() == 0
    assert "bridge-http.h" not in live(admin), "who stopped is not waited for"


def test_without_a_relay_nothing_is_in_force(settings: KafkaSettings, admin: AdminClient) -> None:
    until(lambda: not any(name.startswith("relay.") for name in live(admin)), WAIT_S, "no relay is live any more")
    with pytest.raises(applied.NoReaderError, match="no relay is running"):
        applied.behind(settings, 1, 5)
