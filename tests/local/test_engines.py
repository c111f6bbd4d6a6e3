"""Kafka and mosquitto as the launchers configure them: what the promises need of them holds."""

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from identity.authority import Authority
from local.engines.queue_file import LAST, SAVED
from local.guard import keep_last
from tests.servers import KafkaServer, MosquittoServer

LIMIT_S = 10.0


@contextmanager
def mqtt_client(
    client_id: str, connect: Callable[[mqtt.Client], Any], answer_s: float = LIMIT_S, **options: Any
) -> Iterator[mqtt.Client]:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv5, **options)
    connected: queue.Queue[Any] = queue.Queue()
    client.on_connect = lambda *found: connected.put(found[3])
    connect(client)
    client.loop_start()
    try:
        reason = connected.get(timeout=answer_s)
        if reason.is_failure:
            raise ConnectionRefusedError(str(reason))
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def device(server: MosquittoServer, name: str) -> Any:
    return mqtt_client(name, lambda c: c.connect("127.0.0.1", server.port))


def send(client: mqtt.Client, topic: str, payload: str) -> int:
    """Publish at QoS 1; the broker's reason code."""
    answered: queue.Queue[int] = queue.Queue()
    client.on_publish = lambda *found: answered.put(found[3].value)
    client.publish(topic, payload, qos=1)
    return answered.get(timeout=LIMIT_S)


@contextmanager
def bridge(server: MosquittoServer) -> Iterator["queue.Queue[tuple[str, bytes]]"]:
    """What arrives in the bridge's session, without subscribing again."""
    got: queue.Queue[tuple[str, bytes]] = queue.Queue()

    def connect(client: mqtt.Client) -> None:
        client.username_pw_set(server.bridge_user, server.bridge_password)
        client.on_message = lambda *found: got.put((found[2].topic, found[2].payload))
        keep = Properties(PacketTypes.CONNECT)
        keep.SessionExpiryInterval = 1000
        client.connect(str(server.engine.socket), 1, clean_start=False, properties=keep)

    with mqtt_client(server.bridge_client, connect, transport="unix"):
        yield got


def test_what_devices_say_before_the_first_bridge_waits_for_it(mosquitto_fresh: Callable[[], MosquittoServer]) -> None:
    server = mosquitto_fresh()
    with device(server, "s1") as client:
        assert send(client, "d/s1/telemetry/climate", "early") == 0
    with bridge(server) as got:
        assert got.get(timeout=LIMIT_S) == ("d/s1/telemetry/climate", b"early")


def test_the_broker_keeps_taking_for_a_bridge_that_is_away_over_a_restart(
    mosquitto_fresh: Callable[[], MosquittoServer],
) -> None:
    server = mosquitto_fresh()
    with device(server, "s1") as client:
        assert send(client, "d/s1/telemetry/climate", "before") == 0
    server.stop()
    server.start()
    with device(server, "s1") as client:
        assert send(client, "d/s1/telemetry/climate", "after") == 0
    with bridge(server) as got:
        assert [got.get(timeout=LIMIT_S)[1] for _ in range(2)] == [b"before", b"after"]


def saved_queue(server: MosquittoServer, holds: bytes) -> Path:
    """The file of the queue, once it holds these bytes: mosquitto saves every second."""
    file = server.engine.folder / SAVED
    deadline = time.monotonic() + LIMIT_S
    while not (file.exists() and holds in file.read_bytes()):
        assert time.monotonic() < deadline, "mosquitto saves its queue"
        time.sleep(0.05)
    return file


@pytest.mark.parametrize("left", [0, 40])
def test_a_queue_that_a_full_disk_emptied_or_cut_off_is_replaced_by_the_last_whole_one(
    mosquitto_fresh: Callable[[], MosquittoServer], left: int
) -> None:
    server = mosquitto_fresh()
    with device(server, "s1") as client:
        assert send(client, "d/s1/telemetry/climate", "acknowledged") == 0
    file = saved_queue(server, b"acknowledged")
    keep_last(server.engine.folder)
    server.kill()
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(data[:left])
    server.start()
    with bridge(server) as got:
        assert got.get(timeout=LIMIT_S)[1] == b"acknowledged"


def test_an_empty_file_of_the_queue_does_not_take_the_bridges_session(
    mosquitto_fresh: Callable[[], MosquittoServer],
) -> None:
    server = mosquitto_fresh()
    server.kill()
    (server.engine.folder / SAVED).write_bytes(b"")
    (server.engine.folder / LAST).unlink(missing_ok=True)
    server.start()
    with device(server, "s1") as client:
        assert send(client, "d/s1/telemetry/climate", "early") == 0
    with bridge(server) as got:
        assert got.get(timeout=LIMIT_S)[1] == b"early"


def test_what_engines_write_is_for_their_owner_only(mosquitto: MosquittoServer, kafka: KafkaServer) -> None:
    files = [file for server in (mosquitto, kafka) for file in server.engine.folder.rglob("*") if file.is_file()]
    assert [str(file) for file in files if file.stat().st_mode & 0o077] == []


def test_a_device_speaks_only_as_itself(mosquitto: MosquittoServer) -> None:
    not_authorized = 135
    with device(mosquitto, "s1") as client:
        assert send(client, "d/s1/telemetry/climate", "{}") == 0
        for topic in ("d/s2/telemetry/climate", "c/s1/ack"):
            assert send(client, topic, "{}") == not_authorized


def test_a_device_hears_only_itself(mosquitto: MosquittoServer) -> None:
    got: queue.Queue[str] = queue.Queue()
    with device(mosquitto, "s3") as client, device(mosquitto, "s4") as other:
        for topic in ("#", "d/#", "c/#", "$SYS/#"):
            client.subscribe(topic, 1)
        client.on_message = lambda *found: got.put(found[2].topic)
        assert send(other, "d/s4/telemetry/climate", "secret") == 0
        with bridge(mosquitto):
            pass
        time.sleep(0.2)
    heard = [
        topic for topic in iter(lambda: got.get_nowait() if got.qsize() else "", "") if not topic.startswith("c/s3/")
    ]
    assert heard == []


def test_nobody_is_the_bridge_without_its_password(mosquitto: MosquittoServer) -> None:
    def connect(client: mqtt.Client) -> None:
        client.username_pw_set(mosquitto.bridge_user, "guess")
        client.connect("127.0.0.1", mosquitto.port)

    with pytest.raises(ConnectionRefusedError), mqtt_client("x", connect):
        pass
    assert mosquitto.bridge_password_file.stat().st_mode & 0o777 == 0o600
    assert mosquitto.engine.socket.parent.stat().st_mode & 0o777 == 0o700


def test_with_tls_the_certificate_is_the_identity_whatever_the_client_says(
    mosquitto: MosquittoServer, tmp_path: Path
) -> None:
    authority = Authority.open(mosquitto.authority)
    certificate, key = authority.issue_client("s7")
    for name, data in (("ca", authority.certificate_pem), ("crt", certificate), ("key", key)):
        (tmp_path / name).write_bytes(data)

    def connect(client: mqtt.Client) -> None:
        client.tls_set(str(tmp_path / "ca"), str(tmp_path / "crt"), str(tmp_path / "key"))
        client.username_pw_set(mosquitto.bridge_user)
        client.connect("localhost", mosquitto.tls_port)

    with mqtt_client("s1", connect) as client:
        assert send(client, "d/s7/telemetry/climate", "{}") == 0
        assert send(client, "d/s1/telemetry/climate", "{}") == 135


def test_without_a_certificate_tls_lets_nobody_in(mosquitto: MosquittoServer, tmp_path: Path) -> None:
    (tmp_path / "ca").write_bytes(Authority.open(mosquitto.authority).certificate_pem)

    def connect(client: mqtt.Client) -> None:
        client.tls_set(str(tmp_path / "ca"))
        client.connect("localhost", mosquitto.tls_port)

    # with TLS 1.3 the refusal comes after the handshake: the connection ends before any answer
    with pytest.raises((OSError, queue.Empty)), mqtt_client("s1", connect, 1.0):
        pass


def test_a_socket_path_that_is_too_long_is_replaced(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    server = MosquittoServer(long)
    server.start()
    try:
        assert server.engine.socket.exists()
        assert not server.engine.socket.is_relative_to(long)
    finally:
        server.stop()
        server.engine.socket.parent.rmdir()


def test_acknowledged_records_survive_kill_9_of_kafka(kafka_fresh: Callable[[], KafkaServer]) -> None:
    server = kafka_fresh()
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    admin.create_topics([NewTopic("kept", 2, 1)])["kept"].result(LIMIT_S)
    producer = Producer({"bootstrap.servers": server.bootstrap, "acks": "all", "enable.idempotence": True})
    for n in range(1000):
        producer.produce("kept", str(n), partition=n % 2)
    assert producer.flush(LIMIT_S) == 0
    server.kill()
    server.start()
    consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "x", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition("kept", p, 0) for p in range(2)])
    found: set[int] = set()
    deadline = time.monotonic() + LIMIT_S
    while len(found) < 1000 and time.monotonic() < deadline:
        found |= {int(m.value() or b"-1") for m in consumer.consume(1000, 0.2)}
    consumer.close()
    assert found == set(range(1000))


def test_a_topic_that_nobody_made_is_an_error(kafka: KafkaServer) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.list_topics("local.nobody-made-it", LIMIT_S)
    assert "local.nobody-made-it" not in admin.list_topics(timeout=LIMIT_S).topics
