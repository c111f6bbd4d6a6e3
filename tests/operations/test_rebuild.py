"""A damaged table built again from the log while the sink writes into it, against real Kafka and ClickHouse."""

import signal
from collections.abc import Callable

import pytest
from confluent_kafka import TopicPartition

from runtime.kafka import clients
from schemas.topics import READINGS
from tests.operations.conftest import Command, flowing, tick
from tests.operations.flows import findings, flow, ok, stored
from tests.sinks.conftest import Stand


def damage(stand: Stand, table: str, number: str) -> None:
    """A third of the newer rows gone, a third twice, with another value."""
    db = stand.db()
    newer = f"raw_offset >= (SELECT max(raw_offset) * 2 / 3 FROM {table})"
    double = f"SELECT * REPLACE ({number} + 1 AS {number}) FROM {table} WHERE {newer} AND raw_offset % 3 = 1"
    db.command(f"INSERT INTO {table} {double}", insert_deduplicate=0)
    db.command(f"ALTER TABLE {table} DELETE WHERE {newer} AND raw_offset % 3 = 0", mutations_sync=2)
    db.close()


def forget_the_first_quarter(stand: Stand) -> None:
    """What retention does."""
    admin = clients.admin(stand.kafka_settings)
    before = [TopicPartition(READINGS, chain.partition, chain.offset // 4) for chain in stand.chains]
    for future in admin.delete_records(before).values():
        future.result(10)


@pytest.mark.chaos
@pytest.mark.parametrize(("table", "number"), [("readings", "reading_index"), ("aggregates_1m", "row")])
def test_a_rebuilt_table_holds_what_the_log_says_and_what_came_meanwhile(
    make_stand: Callable[..., Stand], command: Command, table: str, number: str
) -> None:
    stand = make_stand(2)
    stand.sink()
    flow(stand, 40)
    stand.check()
    if table == "readings":
        forget_the_first_quarter(stand)
    damage(stand, table, number)
    with pytest.raises(AssertionError):
        stand.check_rows(stand.expected(), stand.derived())

    with flowing(lambda: flow(stand, 1)):
        ok(command(stand, "rebuild", table))
    stand.check()
    assert findings(stand) == []
    assert f"{table}_before: left" in str(command(stand, "rebuild", table).exception)
    with flowing(lambda: tick(stand)):
        ok(command(stand, "rebuild", table, "--again", "--drop"))
    stand.check()


@pytest.mark.long
def test_a_rebuild_without_a_sink_says_that_it_cannot_end(
    make_stand: Callable[..., Stand], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = make_stand(1)
    sink = stand.sink()
    flow(stand, 5)
    stand.check()
    sink.kill(signal.SIGTERM)
    sink.end()
    flow(stand, 5)
    rows = stored(stand)
    with monkeypatch.context() as hurried:
        hurried.setattr("operations.rebuild.work.SINK_S", 1.0)
        refused = command(stand, "rebuild", "readings")
    assert "the sink has written nothing" in str(refused.exception) and stored(stand) == rows
    stand.sink()
    with flowing(lambda: tick(stand)):
        ok(command(stand, "rebuild", "readings", "--again", "--drop"))
    stand.check()
