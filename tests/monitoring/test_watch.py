"""The watch: its pure parts by tables, its looks against the real servers."""

import math
import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from prometheus_client import REGISTRY

from identity.authority import Authority
from monitoring.watch import certificates, disks
from monitoring.watch.kafka import Kafka, lags, state
from monitoring.watch.look import Look, Watcher
from monitoring.watch.mosquitto import Mosquitto
from monitoring.watch.settings import Disk, WatchSettings
from monitoring.watch.tables import Tables, section
from runtime.addresses import Address
from runtime.clickhouse.client import ClickHouse
from runtime.errors import FatalError
from runtime.settings import SettingsError, load
from tests.servers import ClickHouseServer, KafkaServer, MosquittoServer
from tests.support.waiting import wait_for


def value(name: str, **labels: str) -> float:
    found = REGISTRY.get_sample_value(name, labels)
    assert found is not None, f"{name} {labels} is not shown"
    return found


@pytest.mark.parametrize(
    ("column", "found"),
    [
        ("received", ("messages", "received")),
        ("in_flight", ("messages", "in_flight")),
        ("dead_lettered", ("messages", "dead_lettered")),
        ("readings_in_flight", ("readings", "in_flight")),
        ("windows_difference", ("windows", "difference")),
        ("readings", ("messages", "readings")),
    ],
)
def test_a_column_of_the_ledger_tells_what_it_counts(column: str, found: tuple[str, str]) -> None:
    assert section(column) == found


@pytest.mark.parametrize(
    ("leader", "replicas", "in_sync", "found"),
    [(1, [1], [1], "whole"), (1, [1, 2, 3], [1, 2], "under_replicated"), (-1, [1, 2], [], "leaderless")],
)
def test_the_state_of_a_partition(leader: int, replicas: list[int], in_sync: list[int], found: str) -> None:
    assert state(leader, replicas, in_sync) == found


def test_lags_are_added_up_by_topic_and_never_negative() -> None:
    committed = {("a", 0): 5, ("a", 1): 9, ("b", 0): 3, ("gone", 0): 1}
    assert lags(committed, {("a", 0): 7, ("a", 1): 12, ("b", 0): 2}) == {"a": 5, "b": 0}


def test_bad_settings_are_told_all_at_once() -> None:
    with pytest.raises(SettingsError) as told:
        load(
            WatchSettings,
            {"MILLRACE_WATCH_DISKS": "kafka", "MILLRACE_WATCH_TLS": "here:0", "MILLRACE_WATCH_EVERY_S": "0"},
        )
    assert [line.split("=")[0] for line in told.value.mistakes] == [
        "MILLRACE_WATCH_DISKS",
        "MILLRACE_WATCH_TLS",
        "MILLRACE_WATCH_EVERY_S",
    ]


def test_a_look_that_fails_is_shown_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Exception | None] = [OSError("away"), OSError("away still"), None]

    def look() -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    watcher, at = Watcher([]), Look("toy", 1.0, look)
    assert not watcher.once(at) and value("millrace_watch_up", at="toy") == 0
    assert not watcher.once(at)
    assert len(caplog.records) == 1
    assert watcher.once(at) and value("millrace_watch_up", at="toy") == 1
    assert value("millrace_watch_looked_timestamp_seconds", at="toy") == pytest.approx(time.time(), abs=5)


def test_disks_are_shown_as_df_shows_them_though_one_is_away(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        disks.look([Disk(f"gone={tmp_path / 'nowhere'}"), Disk(f"here={tmp_path}")])
    free, size = value("millrace_disk_free_bytes", disk="here"), value("millrace_disk_size_bytes", disk="here")
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.01)
    found = os.statvfs(tmp_path)
    assert size == (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize >= free


def test_the_certificate_that_a_server_presents_is_shown(mosquitto: MosquittoServer) -> None:
    certificates.look([Address(f"127.0.0.1:{mosquitto.tls_port}")], [mosquitto.authority / "ca.crt"])
    end = value("millrace_certificate_end_timestamp_seconds", certificate=f"127.0.0.1:{mosquitto.tls_port}")
    assert end == pytest.approx((datetime.now(UTC) + timedelta(days=825)).timestamp(), abs=600)
    assert value(
        "millrace_certificate_end_timestamp_seconds", certificate=str(mosquitto.authority / "ca.crt")
    ) == pytest.approx((datetime.now(UTC) + timedelta(days=3650)).timestamp(), abs=600)


def test_of_a_chain_the_earliest_end_counts_and_what_is_no_certificate_is_named(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "authority")
    short, _ = authority.issue_server(["a"], days=1)
    chain, broken = tmp_path / "chain.pem", tmp_path / "broken.pem"
    chain.write_bytes(authority.certificate_pem + short)
    broken.write_text("nothing")
    with pytest.raises(OSError, match=r"broken\.pem"):
        certificates.look([], [broken, chain])
    end = value("millrace_certificate_end_timestamp_seconds", certificate=str(chain))
    assert end == pytest.approx((datetime.now(UTC) + timedelta(days=1)).timestamp(), abs=600)


def test_what_a_group_has_not_committed_is_shown_while_nobody_reads(kafka: KafkaServer) -> None:
    topic, group = "watch.lag", "watch-lag"
    settings = WatchSettings(kafka_bootstrap=kafka.bootstrap)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(15)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for _ in range(10):
        producer.produce(topic, b"x")
    assert producer.flush(15) == 0
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    consumer.close()
    watched = Kafka(settings)
    watched.look()
    assert value("millrace_kafka_group_lag_records", group=group, topic=topic) == 7
    assert value("millrace_kafka_brokers") == 1
    assert value("millrace_kafka_partitions", state="whole") >= 1
    assert value("millrace_kafka_partitions", state="leaderless") == 0
    admin.delete_consumer_groups([group])[group].result(15)
    watched.look()
    assert REGISTRY.get_sample_value("millrace_kafka_group_lag_records", {"group": group, "topic": topic}) is None


def test_a_broker_that_died_and_came_back_is_seen_again(kafka_fresh: Callable[[], KafkaServer]) -> None:
    server = kafka_fresh()
    admin = AdminClient({"bootstrap.servers": server.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic("t", 1)])["t"].result(15)
    consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "watch-again"})
    consumer.commit(offsets=[TopicPartition("t", 0, 0)], asynchronous=False)
    consumer.close()
    watched = Kafka(WatchSettings(kafka_bootstrap=server.bootstrap))
    watched.look()
    server.kill()
    with pytest.raises(KafkaException):
        watched.look()
    server.start()
    deadline = time.monotonic() + 60
    while True:
        try:
            watched.look()
            break
        except KafkaException:
            assert time.monotonic() < deadline


def test_many_months_of_history_are_many_parts_but_not_many_of_a_partition(clickhouse: ClickHouseServer) -> None:
    url = f"http://{clickhouse.user}@{clickhouse.host}:{clickhouse.port}"
    settings = WatchSettings(clickhouse_url=f"{url}/watched_parts", clickhouse_password_file=clickhouse.password_file)
    with ClickHouse(settings, database="") as root:
        root.command("CREATE DATABASE watched_parts")
    asked = ClickHouse(settings)
    asked.command("CREATE TABLE months (n UInt32) ENGINE = MergeTree ORDER BY n PARTITION BY n % 90")
    asked.command("SYSTEM STOP MERGES months")
    for _ in range(3):
        asked.command("INSERT INTO months SELECT number FROM numbers(7)")
    asked.command("INSERT INTO months SELECT number FROM numbers(90)")
    Tables(settings).look_at_server()
    assert value("millrace_clickhouse_table_parts", table="months") == 7 * 3 + 90
    assert value("millrace_clickhouse_partition_parts", table="months") == 4
    assert value("millrace_clickhouse_table_rows", table="months") == 7 * 3 + 90
    asked.close()


def test_disks_tables_and_the_ledger_of_clickhouse_are_shown(clickhouse: ClickHouseServer) -> None:
    url = f"http://{clickhouse.user}@{clickhouse.host}:{clickhouse.port}"
    settings = WatchSettings(clickhouse_url=f"{url}/watched", clickhouse_password_file=clickhouse.password_file)
    with ClickHouse(settings, database="") as root:
        root.command("CREATE DATABASE watched")
    asked = ClickHouse(settings)
    watched = Tables(settings)
    asked.command("CREATE TABLE rows (n UInt32) ENGINE = MergeTree ORDER BY n")
    asked.command("INSERT INTO rows SELECT number FROM numbers(100)")
    with pytest.raises(FatalError, match="ledger"):
        watched.look_at_ledger()
    asked.command("CREATE VIEW ledger AS SELECT 5 AS received, -2 AS difference, 7 AS readings_difference")
    watched.look_at_server()
    watched.look_at_ledger()
    assert value("millrace_clickhouse_table_rows", table="rows") == 100
    assert value("millrace_clickhouse_table_parts", table="rows") == 1
    assert value("millrace_disk_free_bytes", disk="clickhouse/default") > 0
    assert value("millrace_ledger", of="messages", count="difference") == -2
    assert value("millrace_ledger", of="readings", count="difference") == 7
    asked.close()


def test_a_queue_that_nobody_takes_is_seen_growing_in_mosquitto(mosquitto: MosquittoServer) -> None:
    settings = WatchSettings(
        mqtt_url=mosquitto.bridge_url,
        mqtt_user=mosquitto.bridge_user,
        mqtt_password_file=mosquitto.bridge_password_file,
    )
    watched = Mosquitto(settings)

    def figure(name: str) -> float:
        watched.look()
        return value(f"millrace_mosquitto_{name}")

    for name in ("stored_messages", "received_messages"):
        wait_for(lambda name=name: not math.isnan(figure(name)), f"mosquitto's first {name}")
    before, received = figure("stored_messages"), figure("received_messages")
    _publish(mosquitto, 500)  # the bridge's session exists and nobody takes from it
    wait_for(lambda: figure("stored_messages") >= before + 500, "the queue to be seen")
    wait_for(lambda: figure("received_messages") >= received + 500, "what came to be seen")
    wait_for(lambda: figure("clients") >= 1, "a client to be seen")
    watched.close()


def _publish(mosquitto: MosquittoServer, count: int) -> None:
    properties = Properties(PacketTypes.CONNECT)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="watch-1", protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", mosquitto.port, properties=properties)
    client.loop_start()
    sent = [client.publish("d/watch-1/telemetry/climate", b"{}", qos=1) for _ in range(count)]
    sent[-1].wait_for_publish(20)
    client.disconnect()
    client.loop_stop()


def test_a_broker_that_says_nothing_is_not_taken_for_one_that_holds_nothing(
    mosquitto: MosquittoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.watch.mosquitto._PATIENCE_S", 0.0)
    watched = Mosquitto(WatchSettings(mqtt_url=mosquitto.url))  # as a device: it may read no $SYS
    with pytest.raises(OSError, match="access list"):
        watched.look()


def test_a_broker_that_refuses_says_why(mosquitto: MosquittoServer, tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("not it")
    watched = Mosquitto(
        WatchSettings(mqtt_url=mosquitto.bridge_url, mqtt_user="millrace_bridge", mqtt_password_file=wrong)
    )
    with pytest.raises(OSError, match="refused the connection of the watch"):
        watched.look()
