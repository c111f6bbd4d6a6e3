"""The MQTT bridge as a process, between a real mosquitto and a real Kafka."""

import dataclasses
import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import paho.mqtt.client as paho
import pytest

from identity.authority import Authority
from schemas.partition import partition_of
from schemas.vocabulary import Transport
from tests.bridge.conftest import PARTITIONS
from tests.bridge.device import Device
from tests.bridge.processes import Service, wait
from tests.bridge.raw_reader import RawReader
from tests.servers import KafkaServer, MosquittoServer


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoServer]:
    server = MosquittoServer(tmp_path_factory.mktemp("broker"))
    server.engine = dataclasses.replace(server.engine, bridge_client="millrace.bridge.0")
    server.start()
    yield server
    server.kill()


def _service(spine: KafkaServer, broker: MosquittoServer, folder: Path, **settings: object) -> Service:
    usual = {
        "kafka_bootstrap": spine.bootstrap,
        "mqtt_url": broker.bridge_url,
        "mqtt_user": broker.bridge_user,
        "mqtt_password_file": broker.bridge_password_file,
        "linger_ms": 20,
    }
    return Service("bridge.mqtt", folder, **usual | settings)


@pytest.fixture
def bridge(spine: KafkaServer, broker: MosquittoServer, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Makes a bridge, not started yet; settings override the usual ones."""
    made: list[Service] = []

    def make(**settings: object) -> Service:
        made.append(_service(spine, broker, tmp_path, **settings))
        return made[-1]

    yield make
    for service in made:
        service.kill()


@pytest.fixture(scope="class")
def steady(spine: KafkaServer, broker: MosquittoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with _service(spine, broker, tmp_path_factory.mktemp("steady"), linger_ms=100) as service:
        yield service.start()


def _payloads(rows: list[dict[str, Any]], device: str) -> list[bytes]:
    return [row["payload"] for row in rows if row["device"] == device]


def _kafka_pid(spine: KafkaServer) -> int:
    assert spine.process is not None
    return spine.process.popen.pid


@pytest.fixture
def frozen_kafka(spine: KafkaServer) -> Iterator[Callable[[bool], None]]:
    """Call with True: Kafka answers nobody; with False: it goes on."""
    yield lambda on: os.kill(_kafka_pid(spine), signal.SIGSTOP if on else signal.SIGCONT)
    os.kill(_kafka_pid(spine), signal.SIGCONT)


class TestSteady:
    """One bridge for all that do not stop it."""

    def test_messages_of_every_qos_arrive_as_they_were_sent(
        self, steady: Service, broker: MosquittoServer, raw: RawReader
    ) -> None:
        before = datetime.now(UTC)
        with Device(broker.port, "sensor-1") as device:
            binary = bytes(range(256)) * 40
            device.sent(
                device.send('{"temperature":21.5}', qos=0),
                device.send(binary, topic="d/sensor-1/event/raw", content_type="application/octet-stream"),
            )
            device.sent(device.send(b"", qos=2))
            device.sent(
                device.send("1", boot=3, seq=17, ts="2026-01-01T00:00:00Z", other="x", content_type="application/json"),
                device.send("kept", topic="d/sensor-1/config", retain=True),
                device.send("", topic="d/sensor-1/config", retain=True),
            )
            zero, one, two, stamped, retained, unretained = raw.wait_for_rows(6)
        assert zero["topic"] == "d/sensor-1/telemetry/climate" and zero["payload"] == b'{"temperature":21.5}'
        assert (zero["qos"], one["qos"], two["qos"]) == (0, 1, 1), "the broker hands QoS 2 on at QoS 1"
        assert one["payload"] == binary and one["content_type"] == "application/octet-stream"
        assert two["payload"] == b"" and two["content_type"] is None and two["seq"] is None
        assert (stamped["boot"], stamped["seq"], stamped["ts"]) == ("3", "17", "2026-01-01T00:00:00Z")
        assert stamped["content_type"] == "application/json"
        assert (zero["retain"], retained["retain"], unretained["retain"]) == (False, True, True)
        for row in (zero, one, two, stamped, retained):
            assert row["device"] == "sensor-1" and row["transport"] == Transport.MQTT and row["replay_of"] is None
            assert before - timedelta(seconds=1) < row["received_at"] < datetime.now(UTC) + timedelta(seconds=1)
        assert {r.partition for r in raw.records} == {partition_of(b"sensor-1", PARTITIONS)}

    def test_odd_ids_and_topics_are_kept_for_access_to_judge(
        self, steady: Service, broker: MosquittoServer, raw: RawReader
    ) -> None:
        with Device(broker.port, "Größe 1!") as odd, Device(broker.port, "a") as plain:
            odd.sent(odd.send("1", topic="d/Größe 1!/telemetry/x"), odd.send("2", topic="d/Größe 1!/"))
            plain.sent(plain.send("3", topic="d/a/" + "x/" * 150 + "y"), plain.send("4", topic="d/a"))
            rows = raw.wait_for_rows(4)
        topics = {row["payload"]: (row["device"], row["topic"]) for row in rows}
        assert topics[b"1"] == ("Größe 1!", "d/Größe 1!/telemetry/x") and topics[b"2"] == ("Größe 1!", "d/Größe 1!/")
        assert topics[b"4"] == ("a", "d/a")
        assert topics[b"3"] == ("a", "d/a/" + "x/" * 150 + "y")

    def test_order_per_device_holds_and_records_hold_many_rows(
        self, steady: Service, broker: MosquittoServer, raw: RawReader
    ) -> None:
        names = [f"dev-{n}" for n in range(5)]
        before = steady.metric("millrace_bridge_acknowledged_total")
        devices = [Device(broker.port, name) for name in names]
        devices[0].sent(*[d.send(f"{i}", seq=i, boot=1) for i in range(400) for d in devices])
        rows = raw.wait_for_rows(2000)
        for device in devices:
            device.__exit__()
        for name in names:
            assert [int(r["seq"]) for r in rows if r["device"] == name] == list(range(400))
        wait(lambda: steady.metric("millrace_bridge_held_bytes") == 0, "nothing to be held")
        assert steady.metric("millrace_bridge_acknowledged_total") == before + 2000
        assert len(raw.records) < 200

    def test_end_to_end_acknowledgement_names_ranges_once_kafka_holds_them(
        self,
        steady: Service,
        broker: MosquittoServer,
        raw: RawReader,
        frozen_kafka: Callable[[bool], None],
    ) -> None:
        with Device(broker.port, "gateway-1") as device:
            device.listen()
            device.sent(device.send("warm"))
            raw.wait_for_rows(1)
            frozen_kafka(True)
            asked = [device.send("1", boot=7, seq=s, ack=1) for s in (0, 1, 2, 5, 6, 9)]
            device.sent(*asked, device.send("1", boot=7, seq=3), device.send("1", boot=8, seq=0, ack=1, qos=0))
            device.sent(device.send("1", boot="x", seq=1, ack=1), device.send("1", seq=11, ack=1))
            time.sleep(0.4)  # Kafka is stopped: an answer that came now would be wrong
            assert device.received.empty()
            frozen_kafka(False)
            got: dict[int, set[int]] = {7: set(), 8: set()}
            while got != {7: {0, 1, 2, 5, 6, 9}, 8: {0}}:
                topic, body = device.received.get(timeout=20)
                assert topic == "c/gateway-1/ack" and set(body) == {"boot", "ranges"}
                for first, last in body["ranges"]:
                    got[body["boot"]] |= set(range(first, last + 1))
            raw.wait_for_rows(11)
            assert device.received.empty()


def _told(raw: RawReader, device: str) -> list[tuple[str, Any]]:
    """Events of a device, its messages included: (topic without the device, reason of a disconnect)."""
    rows = [row for row in raw.all_rows() if row["device"] == device]
    return [
        (row["topic"].replace(f"/{device}/", "/"), orjson.loads(row["payload"] or b"{}").get("reason")) for row in rows
    ]


def test_connects_and_disconnects_are_told_among_the_messages(
    steady: Service, broker: MosquittoServer, raw: RawReader
) -> None:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="comes-goes", protocol=paho.MQTTv5)
    client.will_set("d/comes-goes/event/offline", b"{}", 1)
    before = steady.metric("millrace_bridge_mqtt_connections_total")
    messages = steady.metric("millrace_bridge_messages_total")
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    client.publish("d/comes-goes/telemetry/x", b"{}", 1).wait_for_publish(10)
    client.loop_stop()
    found = client.socket()
    assert found is not None
    found.close()  # type: ignore[no-untyped-call]  # without a word
    with Device(broker.port, "comes-goes"), Device(broker.port, "odd one"), Device(broker.port, "x disconnected."):
        pass
    expected = [
        ("p/connected", None),
        ("d/telemetry/x", None),
        ("p/disconnected", "closed"),
        ("d/event/offline", None),
        ("p/connected", None),
        ("p/disconnected", "goodbye"),
    ]
    raw.until(lambda: len(_told(raw, "comes-goes")) >= len(expected))
    assert _told(raw, "comes-goes") == expected
    assert {row["device"] for row in raw.all_rows()} == {"comes-goes"}, "no other id is a device's"
    assert {r.partition for r in raw.records} == {partition_of(b"comes-goes", PARTITIONS)}
    wait(lambda: steady.metric("millrace_bridge_mqtt_connections_total") == before + 4, "connections to be counted")
    assert steady.metric("millrace_bridge_messages_total") == messages + 2, "they are no messages"


def test_no_acknowledgement_before_kafka_and_none_is_lost_by_kill_9(
    bridge: Callable[..., Service],
    broker: MosquittoServer,
    raw: RawReader,
    frozen_kafka: Callable[[bool], None],
) -> None:
    service = bridge().start()
    with Device(broker.port, "sensor-2") as device:
        device.sent(device.send("first"))
        raw.wait_for_rows(1)
        frozen_kafka(True)
        device.sent(*[device.send(f"{i}", boot=1, seq=i) for i in range(500)])
        wait(lambda: service.metric("millrace_bridge_messages_total") >= 501, "the bridge to have read all")
        assert service.metric("millrace_bridge_acknowledged_total") == 1
        service.kill()
        frozen_kafka(False)
        service.start()
        wanted = {b"%d" % i for i in range(500)}
        raw.until(lambda: wanted <= set(_payloads(raw.rows(), "sensor-2")))
    first_seen = list(dict.fromkeys(_payloads(raw.rows(), "sensor-2")))
    assert first_seen == [b"first"] + [b"%d" % i for i in range(500)]


def test_back_pressure_bounds_what_is_held_and_drops_only_qos_0(
    bridge: Callable[..., Service],
    broker: MosquittoServer,
    raw: RawReader,
    frozen_kafka: Callable[[bool], None],
) -> None:
    budget = 1 << 20
    service = bridge(budget_bytes=budget, receive_maximum=1000).start()
    with Device(broker.port, "sensor-3") as device:
        device.sent(device.send("first"))
        raw.wait_for_rows(1)
        frozen_kafka(True)
        large = bytes(2000)
        kept = [device.send(b"%05d" % i + large) for i in range(1500)]
        wait(lambda: service.metric("millrace_bridge_paused") == 1, "the bridge to pause")
        device.sent(*kept)
        assert service.metric("millrace_bridge_held_bytes") < budget + 600_000
        frozen_kafka(False)
        wanted = [b"%05d" % i + large for i in range(1500)]
        raw.until(lambda: set(wanted) <= set(_payloads(raw.rows(), "sensor-3")))
        wait(lambda: service.metric("millrace_bridge_held_bytes") == 0, "all to be acknowledged")
        assert service.metric("millrace_bridge_paused") == 0 and service.metric("millrace_bridge_pauses_total") >= 1
        assert service.metric("millrace_bridge_mqtt_dropped_qos0_total") == 0
    assert list(dict.fromkeys(_payloads(raw.rows(), "sensor-3")))[1:] == wanted


def test_qos_0_above_the_budget_is_dropped_and_every_drop_counted(
    bridge: Callable[..., Service],
    broker: MosquittoServer,
    raw: RawReader,
    frozen_kafka: Callable[[bool], None],
) -> None:
    service = bridge(budget_bytes=1 << 20).start()
    with Device(broker.port, "sensor-4") as device:
        frozen_kafka(True)
        device.sent(*[device.send(b"%05d" % i + bytes(1000), qos=0) for i in range(3000)])
        wait(lambda: service.metric("millrace_bridge_mqtt_dropped_qos0_total") > 0, "QoS 0 to be dropped")
        device.sent(device.send("kept", qos=1))
        frozen_kafka(False)
        raw.until(lambda: b"kept" in _payloads(raw.rows(), "sensor-4"))
        dropped = service.metric("millrace_bridge_mqtt_dropped_qos0_total")
    assert len(_payloads(raw.rows(), "sensor-4")) + dropped == 3001


def test_the_bridge_outlives_its_broker(
    bridge: Callable[..., Service], broker: MosquittoServer, raw: RawReader
) -> None:
    service = bridge().start()
    with Device(broker.port, "sensor-5") as device:
        device.sent(*[device.send(f"a{i}") for i in range(100)])
        raw.wait_for_rows(100)
    broker.stop()
    wait(lambda: service.metric("millrace_bridge_mqtt_connected") == 0, "the bridge to notice")
    broker.start()
    with Device(broker.port, "sensor-5") as device:
        device.sent(*[device.send(f"b{i}") for i in range(100)])
        wanted = [b"a%d" % i for i in range(100)] + [b"b%d" % i for i in range(100)]
        raw.until(lambda: set(wanted) <= set(_payloads(raw.rows(), "sensor-5")))
    assert list(dict.fromkeys(_payloads(raw.rows(), "sensor-5"))) == wanted
    wait(service.ready, "the bridge to be ready again")


def test_a_bridge_that_starts_before_its_broker_says_so_once_and_connects_when_it_is_there(
    bridge: Callable[..., Service], broker: MosquittoServer
) -> None:
    broker.stop()
    service = bridge().start(ready=False)
    wait(lambda: "connection to the broker" in service.log.read_text(), "a first failure")
    wait(lambda: not service.ready(), "an answer that it is not ready")
    broker.start()
    wait(service.ready, "the bridge to be ready")
    assert service.log.read_text().count("trying again") == 1


def test_sigterm_drains_and_the_session_keeps_what_comes_meanwhile(
    bridge: Callable[..., Service], broker: MosquittoServer, raw: RawReader
) -> None:
    service = bridge(linger_ms=500).start()
    with Device(broker.port, "sensor-6") as device:
        device.sent(*[device.send(f"{i}") for i in range(50)])
        wait(lambda: service.metric("millrace_bridge_messages_total") == 50, "the bridge to have read all")
        assert service.stop() == 0
        assert len(raw.wait_for_rows(50, timeout_s=5)) == 50
        device.sent(*[device.send(f"{i}") for i in range(50, 100)])
        service.start()
        rows = raw.wait_for_rows(100)
    raw.settle()
    assert _payloads(rows, "sensor-6") == [b"%d" % i for i in range(100)]
    assert len(raw.rows()) == 100, "what was acknowledged at the stop did not come again"


def test_two_bridges_with_one_id_say_so(bridge: Callable[..., Service]) -> None:
    first = bridge().start()
    bridge().start()
    wait(lambda: "does another client use the id millrace.bridge.0?" in first.log.read_text(), "a line in the log")


def test_a_message_that_no_record_can_hold_leaves_its_beginning(
    bridge: Callable[..., Service], broker: MosquittoServer, raw: RawReader
) -> None:
    with bridge(payload_bytes=10_000).start(), Device(broker.port, "sensor-7") as device:
        device.sent(device.send(b"x" * 9000), device.send(b"y" * 11_000, boot=1, seq=1), device.send(b"z" * 900_000))
        device.sent(device.send("after"))
        nine, eleven, huge, after = raw.wait_for_rows(4)
    assert nine["payload"] == b"x" * 9000 and nine["content_type"] is None
    assert eleven["payload"] == b"y" * 1024 and (eleven["seq"], eleven["boot"]) == ("1", "1")
    assert huge["payload"][:1000] == b"z" * 1000 and len(huge["payload"]) <= 1024
    assert eleven["content_type"] == huge["content_type"] == "application/vnd.millrace.cut"
    assert after["payload"] == b"after"


def test_a_message_beyond_every_limit_is_refused_loudly_and_the_bridge_never_sees_it(
    bridge: Callable[..., Service], broker: MosquittoServer, raw: RawReader
) -> None:
    with bridge().start() as service:
        ended: queue.Queue[bool] = queue.Queue()
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="sensor-8", protocol=paho.MQTTv311)
        client.on_disconnect = lambda *_: ended.put(True)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        message = client.publish("d/sensor-8/event/dump", bytes(10_000_000), qos=1)
        assert ended.get(timeout=10) and not message.is_published()
        client.loop_stop()
        with Device(broker.port, "sensor-8") as device:
            device.sent(device.send(b"m" * 1_400_000), device.send("small"))
            large, small = raw.wait_for_rows(2)
        assert large["payload"] == b"m" * 1_400_000 and small["payload"] == b"small"
        assert service.metric("millrace_bridge_mqtt_cut_total") == 0


def test_the_bridge_speaks_tls_with_a_certificate_of_its_own(
    bridge: Callable[..., Service], broker: MosquittoServer, raw: RawReader, tmp_path: Path
) -> None:
    authority = Authority.open(broker.authority)
    files = {"mqtt_ca_file": tmp_path / "ca", "mqtt_cert_file": tmp_path / "crt", "mqtt_key_file": tmp_path / "key"}
    for file, pem in zip(
        files.values(), (authority.certificate_pem, *authority.issue_client(broker.bridge_user)), strict=True
    ):
        file.write_bytes(pem)
    with bridge(mqtt_url=broker.tls_url, mqtt_user="", **files).start(), Device(broker.port, "sensor-9") as device:
        device.sent(device.send("by tls"))
        assert raw.wait_for_rows(1)[0]["payload"] == b"by tls"


def test_credentials_that_cannot_be_read_or_are_refused_stop_the_bridge_with_one_line(
    bridge: Callable[..., Service], tmp_path: Path
) -> None:
    missing = bridge(mqtt_password_file=tmp_path / "none").start(ready=False)
    assert missing.process is not None and missing.process.wait(20) == 64
    assert "MILLRACE_MQTT_PASSWORD_FILE" in missing.log.read_text()
    (tmp_path / "wrong").write_text("wrong")
    missing.log.write_text("")
    refused = bridge(mqtt_password_file=tmp_path / "wrong").start(ready=False)
    assert refused.process is not None and refused.process.wait(20) == 78
    assert "the broker refuses the connection" in refused.log.read_text()
