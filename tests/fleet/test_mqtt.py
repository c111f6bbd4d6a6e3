"""The fleet's publisher against the real broker: order, breaks, reboots, TLS, end-to-end acknowledgement."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from local.fleet import enrol
from local.fleet.connections import Connections, Endpoints, FleetError, allow_connections
from local.fleet.publication import Publication
from runtime.mqtt.properties import user_property
from runtime.mqtt.wire import binary
from runtime.tasks import in_thread
from tests.servers import MosquittoServer
from tests.support.waiting import wait_for_async

DEADLINE_S = 20.0


class Listener:
    """In place of the bridge: receives everything below d/, may write below c/."""

    def __init__(self, server: MosquittoServer) -> None:
        self.received: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, server.bridge_client, protocol=paho.MQTTv5, transport="unix"
        )
        self._client.username_pw_set(server.bridge_user, server.bridge_password)
        self._client.on_message = lambda _c, _u, message: self.received.put((message.topic, message.payload))
        self._client.on_connect = lambda client, *_: client.subscribe("d/#", options=SubscribeOptions(qos=1))
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.reconnect_delay_set(1, 1)
        stays = Properties(PacketTypes.CONNECT)
        stays.SessionExpiryInterval = 0xFFFFFFFF
        self._client.connect(server.bridge_url.removeprefix("unix://"), clean_start=False, properties=stays)
        self._client.loop_start()
        assert subscribed.wait(DEADLINE_S)

    def publish(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=1)

    def take(self, devices: str, count: int) -> list[tuple[str, bytes]]:
        """The next messages of devices whose ids begin so; fails when they do not come. Others' are left out: the
        broker repeats what an earlier test's listener took and could no longer acknowledge."""
        found: list[tuple[str, bytes]] = []
        while len(found) < count:
            topic, payload = self.received.get(timeout=DEADLINE_S)
            if topic.startswith(f"d/{devices}"):
                found.append((topic, payload))
        return found

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def listening(server: MosquittoServer) -> Iterator[Listener]:
    listener = Listener(server)
    try:
        yield listener
    finally:
        listener.close()


def publications(device: str, first: int, count: int, acknowledged: bool = False) -> list[Publication]:
    topic = binary(f"d/{device}/telemetry/climate".encode())
    ack = user_property(b"ack", b"1") if acknowledged else b""
    return [
        Publication(topic, ack, b'{"seq":%d}' % seq, (1, seq) if acknowledged else None)
        for seq in range(first, first + count)
    ]


def seqs(received: list[tuple[str, bytes]], device: str) -> list[int]:
    return [orjson.loads(payload)["seq"] for topic, payload in received if topic.split("/")[1] == device]


def endpoints(server: MosquittoServer) -> Endpoints:
    return Endpoints(server.url, {})


async def until(true: Callable[[], bool]) -> None:
    await wait_for_async(true, "what the test waits for", DEADLINE_S)


def test_messages_of_each_device_arrive_in_order_and_are_acknowledged(mosquitto: MosquittoServer) -> None:
    ids = [f"order-{i}" for i in range(20)]

    async def run() -> int:
        async with Connections(endpoints(mosquitto), ids, {}, frozenset()) as connections:
            await connections.connected()
            for first in range(0, 100, 25):
                for device in ids:
                    connections.send(device, publications(device, first, 25))
            await connections.done()
            return connections.totals.acknowledged

    with listening(mosquitto) as listener:
        assert asyncio.run(run()) == 2000
        received = listener.take("order-", 2000)
    assert all(seqs(received, device) == list(range(100)) for device in ids)


def test_more_than_the_window_waits_in_the_device(mosquitto: MosquittoServer) -> None:
    async def run() -> None:
        async with Connections(endpoints(mosquitto), ["window-1"], {}, frozenset()) as connections:
            connections.send("window-1", publications("window-1", 0, 3000))
            await connections.done()

    with listening(mosquitto) as listener:
        asyncio.run(run())
        assert seqs(listener.take("window-1", 3000), "window-1") == list(range(3000))


def test_a_reboot_finishes_what_is_under_way_and_connects_again(mosquitto: MosquittoServer) -> None:
    async def run() -> int:
        async with Connections(endpoints(mosquitto), ["reboot-1"], {}, frozenset()) as connections:
            await connections.connected()
            connections.send("reboot-1", publications("reboot-1", 0, 50))
            connections.restart("reboot-1")
            connections.send("reboot-1", publications("reboot-1", 50, 50))
            await connections.done()
            assert connections.totals.resent == 0
            return connections.totals.connects

    with listening(mosquitto) as listener:
        assert asyncio.run(run()) == 2
        assert seqs(listener.take("reboot-1", 100), "reboot-1") == list(range(100))


def test_what_a_stopped_broker_did_not_acknowledge_is_sent_again(
    mosquitto_fresh: Callable[[], MosquittoServer],
) -> None:
    server = mosquitto_fresh()
    ids = [f"break-{i}" for i in range(5)]

    async def run() -> int:
        async with Connections(endpoints(server), ids, {}, frozenset()) as connections:
            await connections.connected()
            for device in ids:
                connections.send(device, publications(device, 0, 200))
            await in_thread(server.stop)
            await until(lambda: connections.totals.connected == 0)
            for device in ids:
                connections.send(device, publications(device, 200, 200))
            server.start()  # in this thread: a program ends with the thread that started it
            await connections.done()
            return connections.totals.connects

    assert asyncio.run(run()) == 10
    with listening(server) as listener:
        wanted = {(device, seq) for device in ids for seq in range(400)}
        deadline = time.monotonic() + DEADLINE_S
        while wanted and time.monotonic() < deadline:
            topic, payload = listener.received.get(timeout=DEADLINE_S)
            wanted.discard((topic.split("/")[1], orjson.loads(payload)["seq"]))
    assert not wanted


def test_a_message_is_open_until_kafka_is_said_to_hold_it(mosquitto: MosquittoServer) -> None:
    async def run(listener: Listener) -> None:
        async with Connections(endpoints(mosquitto), ["e2e-1"], {}, frozenset(["e2e-1"])) as connections:
            await connections.connected()
            connections.send("e2e-1", publications("e2e-1", 0, 10, acknowledged=True))
            await until(lambda: connections.totals.acknowledged == 10)
            assert connections.totals.open == 10
            listener.publish("c/e2e-1/ack", b'{"boot":1,"ranges":[[0,3],[5,9]]}')
            await until(lambda: connections.totals.open == 1)
            listener.publish("c/e2e-1/ack", b'{"boot":2,"ranges":[[4,4]]}')
            listener.publish("c/e2e-1/ack", b'{"boot":1,"ranges":[[4,4]]}')
            await connections.done()

    with listening(mosquitto) as listener:
        asyncio.run(run(listener))
        assert seqs(listener.take("e2e-1", 10), "e2e-1") == list(range(10))


def test_what_kafka_is_not_said_to_hold_is_sent_again_after_a_reconnect(mosquitto: MosquittoServer) -> None:
    async def run(listener: Listener) -> None:
        async with Connections(endpoints(mosquitto), ["again-1"], {}, frozenset(["again-1"])) as connections:
            await connections.connected()
            connections.send("again-1", publications("again-1", 0, 3, acknowledged=True))
            await until(lambda: connections.totals.acknowledged == 3)
            listener.publish("c/again-1/ack", b'{"boot":1,"ranges":[[0,0]]}')
            await until(lambda: connections.totals.open == 2)
            connections.restart("again-1")
            await until(lambda: connections.totals.acknowledged == 5)
            assert connections.totals.resent == 2
            listener.publish("c/again-1/ack", b'{"boot":1,"ranges":[[0,2]]}')
            await connections.done()

    with listening(mosquitto) as listener:
        asyncio.run(run(listener))
        assert seqs(listener.take("again-1", 5), "again-1") == [0, 1, 2, 1, 2]


def test_with_a_certificate_of_its_own_a_device_speaks_tls(mosquitto: MosquittoServer, tmp_path: Path) -> None:
    ca_file = mosquitto.authority / "ca.crt"
    tls = enrol.tls_contexts(ca_file, tmp_path / "keys", ["tls-1"])
    assert (tmp_path / "keys" / "tls-1.pem").stat().st_mode & 0o077 == 0

    async def run() -> None:
        async with Connections(Endpoints(mosquitto.tls_url, tls), ["tls-1"], {}, frozenset()) as connections:
            await connections.connected()
            connections.send("tls-1", publications("tls-1", 0, 500))
            await connections.done()

    with listening(mosquitto) as listener:
        asyncio.run(run())
        assert seqs(listener.take("tls-1", 500), "tls-1") == list(range(500))


def test_certificates_are_made_once(mosquitto: MosquittoServer, tmp_path: Path) -> None:
    ca_file = mosquitto.authority / "ca.crt"
    enrol.tls_contexts(ca_file, tmp_path, ["once-1"])
    before = (tmp_path / "once-1.pem").read_bytes()
    enrol.tls_contexts(ca_file, tmp_path, ["once-1"])
    assert (tmp_path / "once-1.pem").read_bytes() == before


def test_more_connections_than_the_machine_allows_are_refused_with_the_limit() -> None:
    with pytest.raises(FleetError, match="ulimit"):
        allow_connections(1 << 40)
