"""The sink against a real Kafka and a real ClickHouse: whatever dies, each row stands in its table exactly once."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.kafka import clients, topics
from runtime.settings import KafkaSettings
from schemas.control import Device
from schemas.headers import Version
from schemas.topics import DERIVED
from sinks.verify import verify
from tests.servers import ClickHouseServer, KafkaServer
from tests.sinks.conftest import Stand, eventually
from tests.sinks.kills import kills_and_flow

Make = Callable[[int], Stand]


def test_it_stores_each_row_once_and_the_ledger_reconciles(make_stand: Make) -> None:
    stand = make_stand(2)
    for chain in stand.chains:
        chain.flow(20)
    stand.chains[0].data(messages=130, months=65)
    stand.chains[0].tick()
    stand.chains[0].device(Version(0, 7), Device("pump-1", "motor", labels={"site": "north"}))
    stand.chains[1].control_record(Version(0, 8), "policy", b'{"roles":{}}')
    for chain in stand.chains:
        chain.tick()
    stand.sink()
    stand.check()
    db = stand.db()
    assert db.rows("SELECT device, role, state, labels, version_offset FROM devices") == [
        ("pump-1", "motor", "active", {"site": "north"}, 7)
    ]
    assert db.rows("SELECT raw_partition, version_offset, policy FROM policies") == [(1, 8, '{"roles":{}}')]
    assert db.rows("SELECT uniqExact(toYYYYMM(time)) > 50 FROM readings") == [(True,)]
    expected = stand.expected()
    assert db.rows("SELECT received, in_flight, difference, readings_stored, readings_difference FROM ledger") == [
        (expected.received, 0, 0, expected.readings.total(), 0)
    ]
    assert list(verify(db, stand.kafka_settings)) == []
    db.command("ALTER TABLE readings DELETE WHERE raw_partition = 1 AND raw_offset = 0", mutations_sync=2)
    db.command("ALTER TABLE ledger_received UPDATE received = 3 WHERE raw_offset = 1", mutations_sync=2)
    findings = "\n".join(verify(db, stand.kafka_settings))
    for text in (
        "readings: epoch 0 partition 1 offset 0",
        "telemetry.raw[0] offset 1 holds 20",
        "messages: difference",
    ):
        assert text in findings


@pytest.mark.long
def test_it_survives_kills_of_itself_and_of_clickhouse(make_stand: Make) -> None:
    kills_and_flow(make_stand(2), kills=4, records=12, seed=1)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_it_survives_many_kills(make_stand: Make) -> None:
    kills = int(os.environ.get("KILLS", "200")) // 4
    seed = int(os.environ.get("SEED", "1"))
    for i in range(0, kills, 10):
        kills_and_flow(make_stand(3), kills=min(10, kills - i), records=15, seed=seed + i)
    print(f"sink: {kills} kills, lost 0, doubled 0")


@pytest.mark.long
def test_a_zombie_and_its_successor_together_store_once(make_stand: Make) -> None:
    stand = make_stand(2)
    first = stand.sink("a")
    for _ in range(3):
        for chain in stand.chains:
            chain.flow(10)
        stand.producer.flush()
        time.sleep(0.7)
    eventually(lambda: "assigned" in first.text(), "the first sink has its partitions")
    first.kill(signal.SIGSTOP)
    second = stand.sink("b")
    for chain in stand.chains:
        chain.flow(10)
    stand.producer.flush()
    eventually(lambda: second.text().count("assigned") >= 12, "the second sink took all partitions over")
    first.kill(signal.SIGCONT)
    for chain in stand.chains:
        chain.flow(10)
    stand.check()
    eventually(lambda: "fenced" in first.text(), "the zombie logs that it was fenced", tell=first.text)


@pytest.mark.long
def test_partitions_move_between_sinks_without_loss(make_stand: Make) -> None:
    stand = make_stand(4)
    stand.sink("a")
    second = None
    for i in range(6):
        for chain in stand.chains:
            chain.flow(4)
        stand.producer.flush()
        time.sleep(0.4)
        if i == 1:
            second = stand.sink("b")
        if i == 4 and second is not None:
            eventually(lambda: "assigned" in second.text(), "the second sink has partitions")  # noqa: B023
            second.kill(signal.SIGTERM)
            assert second.end() == 0
    stand.check()


def test_without_a_commit_it_goes_on_where_the_ledger_ends(make_stand: Make) -> None:
    stand = make_stand(2)
    for chain in stand.chains:
        chain.flow(10)
    sink = stand.sink()
    stand.check()
    sink.kill(signal.SIGTERM)
    assert sink.end() == 0
    expire_commits(stand)
    for chain in stand.chains:
        chain.flow(10)
    stand.sink(MILLRACE_SINK_RANGE_ROWS="77")
    stand.check()


@pytest.mark.chaos
def test_without_commit_and_ledger_it_refuses_tables_that_hold_rows(make_stand: Make) -> None:
    stand = make_stand(1)
    stand.chains[0].flow(5)
    sink = stand.sink()
    stand.check()
    sink.kill()
    sink.end()
    expire_commits(stand)
    db = stand.db()
    db.command("TRUNCATE TABLE ledger_facts")
    sink = stand.sink()
    assert sink.end() == 78
    assert "the ledger knows nothing" in sink.text().replace("of which the ledger\n", "of which the ledger ")


def test_it_refuses_a_clickhouse_that_lost_what_was_committed(make_stand: Make) -> None:
    stand = make_stand(1)
    stand.chains[0].flow(5)
    sink = stand.sink()
    stand.check()
    sink.kill(signal.SIGTERM)
    sink.end()
    db = stand.db()
    db.command(f"DROP DATABASE {stand.name}")
    sink = stand.sink()
    assert sink.end() == 78
    assert "ClickHouse lost rows or is another server" in sink.text()


@pytest.mark.parametrize("topic", ["telemetry.readings", "telemetry.presence"])
def test_a_newer_schema_is_refused(make_stand: Make, topic: str) -> None:
    stand = make_stand(1)
    stand.chains[0].flow(3)
    stages = stand.chains[0].stages
    assert stages is not None
    given, value = stages.last[topic] if topic in stages.last else stand.chains[0].tick()
    newer = [(k, topic.encode() + b"/99" if k == "schema" else v) for k, v in given]
    stand.send(topic, 0, newer, value)
    stand.producer.flush()
    sink = stand.sink()
    assert sink.end() == 78
    assert "upgrade it before the writer" in sink.text()


def test_a_gap_is_refused(make_stand: Make) -> None:
    stand = make_stand(1)
    chain = stand.chains[0]
    chain.flow(3)
    chain.prev += 7
    chain.data()
    stand.producer.flush()
    sink = stand.sink()
    assert sink.end() == 78
    assert "gap in provenance" in sink.text()


def test_a_gap_in_a_derived_topic_is_refused(make_stand: Make) -> None:
    """Of which nothing is stored, while the other topics are."""
    stand = make_stand(1)
    chain = stand.chains[0]
    assert chain.stages is not None
    chain.flow(3)
    chain.stages.prev["telemetry.incidents"] += 1
    chain.tick()
    stand.producer.flush()
    sink = stand.sink()
    assert sink.end() == 78
    assert "telemetry.incidents[0] offset" in sink.text()
    assert "gap in provenance" in sink.text()


def test_it_waits_for_topics_that_an_older_platform_has_not(
    kafka_fresh: Callable[[], KafkaServer], servers: tuple[KafkaServer, ClickHouseServer], tmp_path: Path
) -> None:
    broker = kafka_fresh()
    settings, plans = KafkaSettings(broker.bootstrap), topics.plans(1, 1)
    topics.ensure(settings, [p for p in plans if p.name not in DERIVED], 1)
    stand = Stand(servers[0], servers[1], f"old_{os.getpid()}", tmp_path, 1)
    sink = stand.sink(MILLRACE_KAFKA_BOOTSTRAP=broker.bootstrap)
    what = f"topics {', '.join(sorted(DERIVED))} are not registered yet"
    eventually(lambda: what in sink.text(), "it says what it waits for")
    assert "run `millrace init` first" in sink.text()
    topics.ensure(settings, plans, 1)
    eventually(lambda: sink.text().count("assigned") == 6, "it goes on when they are there", tell=sink.text)
    stand.close()


@pytest.mark.long
def test_ticks_alone_are_stored_in_few_inserts(make_stand: Make) -> None:
    stand = make_stand(1)
    stand.sink()
    for _ in range(30):
        stand.chains[0].tick()
        stand.producer.flush()
        time.sleep(0.1)
    eventually(lambda: facts_rows(stand) >= 10, "ticks reach the ledger")
    inserts = stand.db().rows("SELECT uniqExact(stored_at) FROM ledger_facts")[0][0]
    assert inserts <= 4, "a second of ticks is one insert"


def facts_rows(stand: Stand) -> int:
    try:
        return int(stand.db().rows("SELECT count() FROM ledger_facts")[0][0])
    except Exception:
        return 0


def members(stand: Stand) -> int:
    admin = clients.admin(stand.kafka_settings)
    return len(admin.describe_consumer_groups([stand.name])[stand.name].result(10).members)


def expire_commits(stand: Stand) -> None:
    """As Kafka does after offsets.retention.minutes without a member."""
    admin = clients.admin(stand.kafka_settings)
    eventually(
        lambda: not admin.describe_consumer_groups([stand.name])[stand.name].result(10).members, "group is empty"
    )
    for future in admin.delete_consumer_groups([stand.name]).values():
        future.result(10)
