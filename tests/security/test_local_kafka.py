"""The local Kafka rejects clients without its password, and the password is disclosed to nobody."""

import os
import socket
import stat
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from local.engines import kafka_probe
from local.engines.kafka_keys import CONTROLLER, MECHANISM, USER, KafkaKeys
from local.engines.kafka_probe import Login
from local.ports import LOOPBACK
from runtime.kafka import clients
from runtime.settings import KafkaSettings
from tests.servers import KafkaServer

TOPIC = "kept"


def guarded(folder: Path) -> KafkaServer:
    """A broker that asks for the password."""
    server = KafkaServer(folder)
    server.engine = replace(server.engine, keys=KafkaKeys(folder / "keys"))
    return server


def settings(server: KafkaServer) -> KafkaSettings:
    assert server.engine.keys is not None
    return KafkaSettings(kafka_bootstrap=server.bootstrap, kafka_security=server.engine.keys.clients)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    server = guarded(tmp_path_factory.mktemp("guarded"))
    server.start()
    yield server
    server.stop()


def test_a_client_with_the_password_is_served(kafka: KafkaServer) -> None:
    assert len(clients.admin(settings(kafka)).list_topics(timeout=10).brokers) == 1


def stranger(server: KafkaServer, port: int | None = None, **more: str) -> AdminClient:
    own = {"bootstrap.servers": f"{LOOPBACK}:{port or server.engine.port}", "log_level": 0, "socket.timeout.ms": 3000}
    return AdminClient(own | {name.replace("_", "."): value for name, value in more.items()})


SASL = {"security_protocol": "sasl_plaintext", "sasl_mechanism": MECHANISM}


@pytest.mark.parametrize(
    "login",
    [
        {},
        SASL | {"sasl_username": USER, "sasl_password": "guess"},
        SASL | {"sasl_username": CONTROLLER, "sasl_password": "guess"},
        SASL | {"sasl_username": USER, "sasl_password": ""},
        SASL | {"sasl_username": USER, "sasl_password": "guess", "sasl_mechanism": "PLAIN"},
    ],
)
def test_nobody_without_the_password_reads_or_writes(kafka: KafkaServer, login: dict[str, str]) -> None:
    with pytest.raises(KafkaException):
        stranger(kafka, **login).list_topics(timeout=3)


def test_nobody_speaks_to_the_controller_without_its_password(kafka: KafkaServer) -> None:
    assert kafka_probe.brokers(LOOPBACK, kafka.engine.controller_port, None) == 0
    assert kafka_probe.brokers(LOOPBACK, kafka.engine.controller_port, Login("PLAIN", CONTROLLER, "guess")) == 0


def test_passwords_are_in_private_files_and_in_no_command_line(kafka: KafkaServer) -> None:
    keys = kafka.engine.keys
    assert keys is not None and kafka.process is not None
    assert stat.S_IMODE(keys.folder.stat().st_mode) == 0o700
    for file in (*keys.folder.iterdir(), kafka.engine.folder / "server.properties"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with_password = [p for p in kafka.engine.folder.iterdir() if p.is_file() and keys.password in p.read_text()]
    assert with_password == [kafka.engine.folder / "server.properties"], "what formatting needed is gone"
    for name in ("cmdline", "environ"):
        seen = Path(f"/proc/{kafka.process.pid}/{name}").read_bytes()
        assert keys.password.encode() not in seen
        assert keys.controller_password.encode() not in seen


def test_who_takes_kafkas_port_learns_no_password_and_is_not_believed() -> None:
    heard = bytearray()
    with socket.create_server((LOOPBACK, 0)) as taken:
        thread = threading.Thread(target=impostor, args=(taken, heard))
        thread.start()
        login = Login(MECHANISM, USER, "the password")
        assert kafka_probe.brokers(LOOPBACK, taken.getsockname()[1], login) == 0
        thread.join()
    assert USER.encode() in heard
    assert b"the password" not in heard


def impostor(server: socket.socket, heard: bytearray) -> None:
    """Plays Kafka: agrees to SCRAM, gives a challenge, and says that the answer to it was right."""

    def answer(body: bytes) -> bytes:
        request = connection.recv(4096)
        heard.extend(request)
        reply = request[8:12] + body
        connection.sendall(len(reply).to_bytes(4, "big") + reply)
        return request

    def token(data: bytes) -> bytes:
        return b"\0\0\xff\xff" + len(data).to_bytes(4, "big") + data

    connection, _ = server.accept()
    with connection:
        answer(b"\0\0\0\0\0\0")
        heard.extend(request := connection.recv(4096))
        nonce = request.rpartition(b"r=")[2]
        challenge = token(b"r=" + nonce + b"x,s=" + b64encode(b"salt") + b",i=4096")
        reply = request[8:12] + challenge
        connection.sendall(len(reply).to_bytes(4, "big") + reply)
        answer(token(b"v=" + b64encode(b"\0" * 64)))
        connection.recv(4096)


@pytest.mark.long
def test_a_kafka_from_before_passwords_keeps_its_records_and_asks_for_one(
    kafka_fresh: Callable[[], KafkaServer],
) -> None:
    server = kafka_fresh()
    admin = stranger(server)
    (done,) = admin.create_topics([NewTopic(TOPIC, 1, 1)]).values()
    done.result(10)
    out = Producer({"bootstrap.servers": server.bootstrap})
    out.produce(TOPIC, b"old")
    assert out.flush(20) == 0
    server.stop()
    server.engine = replace(server.engine, keys=KafkaKeys(server.engine.folder.with_name("keys")))
    for _ in range(2):  # the first start gives Kafka the password, the second knows no other way in
        server.start()
        assert read_one(settings(server)) == b"old"
        with pytest.raises(KafkaException):
            stranger(server).list_topics(timeout=3)
        server.stop()
    assert "sasl.enabled.mechanisms=SCRAM-SHA-512\n" in (server.engine.folder / "server.properties").read_text()


def read_one(found: KafkaSettings) -> bytes | None:
    consumer: Consumer = clients.consumer(found, clients.READER)
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    try:
        message: Any = consumer.poll(20)
        assert message is not None and message.error() is None
        value: bytes | None = message.value()
        return value
    finally:
        consumer.close()


def test_services_get_the_password_by_a_file_that_their_environment_names(tmp_path: Path) -> None:
    from local.platform import Platform

    platform = Platform.on(tmp_path, insecure=False)
    programs = [spec.program() for spec in platform.specs() if spec.name not in ("kafka", "clickhouse", "mosquitto")]
    assert {p.environment["MILLRACE_KAFKA_SECURITY"] for p in programs} == {str(platform.kafka_keys.clients)}
    assert platform.client_environment()["MILLRACE_KAFKA_SECURITY"] == str(platform.kafka_keys.clients)
    assert os.environ.get("MILLRACE_KAFKA_SECURITY") is None
