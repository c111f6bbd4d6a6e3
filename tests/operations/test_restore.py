"""Backups that are interrupted, and restores that continue after that, against real Kafka and ClickHouse."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import NewTopic

from control.log import headers_of
from operations.backup import BackupSettings, backup, control, journal, restore, tables
from operations.backup.manifest import File
from operations.backup.tables import Table
from operations.correct.phases import NEW
from operations.doctor import Level, judge
from runtime.clickhouse.client import ClickHouse
from runtime.errors import MillraceError, RefusedError, RetryableError
from runtime.kafka import clients
from runtime.kafka.log import NEWEST, OLDEST, LogReader
from runtime.kafka.topics import newest_values
from runtime.settings import KafkaSettings
from schemas.control import CHANGE_HEADER, FORMAT, FORMAT_HEADER, former_parents
from tests.operations.flows import flow, stored
from tests.servers import KafkaServer
from tests.sinks.conftest import Stand

DEVICE = b'{"id":"device-%07d","labels":{},"parent":null,"role":"motor","state":"active","token":null}'
MANY = 200_000


def test_an_exception_in_mid_stream_is_an_error_and_leaves_no_file(db: ClickHouse, tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    sql = "SELECT number, toString(number) AS s, throwIf(number = 3000000) AS t FROM numbers(10000000)"
    with pytest.raises(MillraceError, match="throwIf"):
        tables.write(db, sql, file)
    assert not file.exists()
    assert tables.write(db, "SELECT number FROM numbers(1000000)", file) == 1_000_000


@pytest.mark.parametrize("name", ["aggregates_1h", "presence_newest", "readings"])
def test_a_table_that_holds_fewer_rows_than_the_backup_is_not_called_restored(db: ClickHouse, name: str) -> None:
    found = {table.name: table for table in tables.tables(db)}
    assert found[name].replacing == (name != "readings")
    mark = None if found[name].replacing else 0
    with pytest.raises(RefusedError, match=f"{name} holds 0 rows after loading, the backup 3"):
        tables.compare(db, found[name], [File("x", 1, "", name, 3, mark)])
    tables.compare(db, found[name], [])


def test_all_of_many_control_records_are_restored_and_acknowledged(
    kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, topic = KafkaSettings(kafka.bootstrap), "restored.control"
    admin = clients.admin(settings)
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    monkeypatch.setattr("control.log.CONTROL", topic)
    records = {f"device/device-{i:07d}": DEVICE % i for i in range(MANY)} | {"policy": b"{}"}
    given: list[dict[str, Any]] = []
    producer = clients.producer
    monkeypatch.setattr("control.log.clients.producer", lambda s, own: given.append(own) or producer(s, own))
    assert control.restore(settings, records, {}) == MANY + 1
    assert given[0]["transaction.timeout.ms"] == 10_000 + MANY + 1, "time in proportion to the records"
    assert {key: value for key, (_, value) in newest_values(settings, topic).items()} == records
    with LogReader(settings) as reader:
        end = reader.bounds(topic, 0)[1]
        written = [headers_of(message) for message in reader.records(topic, {0: (OLDEST, NEWEST)})]
    assert len({found[CHANGE_HEADER] for found in written}) == 1, "one transaction: all of it is in force or nothing"
    assert {found[FORMAT_HEADER] for found in written} == {FORMAT}
    assert {former_parents(found) for found in written[:-1]} == {None}, "each partition that may know another parent"
    assert former_parents(written[-1]) == [], "a policy has no parents"
    assert control.restore(settings, records, {}) == MANY + 1
    with LogReader(settings) as reader:
        assert reader.bounds(topic, 0)[1] == end, "what is there already is not written again"


@pytest.mark.long
def test_a_restore_that_broke_off_goes_on_when_the_same_command_runs_again(
    make_stand: Callable[..., Stand], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand, folder = make_stand(1), tmp_path / "backup"
    settings = BackupSettings(
        kafka_bootstrap=stand.kafka.bootstrap,
        clickhouse_url=stand.settings.clickhouse_url,
        clickhouse_password_file=stand.settings.clickhouse_password_file,
        sink_group=stand.name,
    )
    sink = stand.sink()
    flow(stand, 10)
    stand.check()
    sink.kill(signal.SIGTERM)
    assert sink.end() == 0
    made = backup(settings, folder)
    wanted = stored(stand)
    assert made.rows > wanted > 0

    loaded: list[str] = []
    whole = tables.load

    def breaks_off(db: ClickHouse, table: Table, *more: Any) -> None:
        if table.name == "readings":
            raise RetryableError("the connection broke")
        whole(db, table, *more)
        loaded.append(table.name)

    with monkeypatch.context() as broken:
        broken.setattr(tables, "load", breaks_off)
        with pytest.raises(RetryableError, match="broke"):
            restore(settings, folder, replace=True)
    assert loaded and stored(stand) == 0
    with ClickHouse(stand.settings) as db:
        assert journal.under_way(db) == made.made_at
        (finding,) = judge.unfinished(journal.under_way(db), None)
        assert finding.level is Level.WRONG and "is not finished" in finding.what
    with pytest.raises(RefusedError, match="run it again, then back up"):
        backup(settings, tmp_path / "another")

    again: list[str] = []

    def noted(db: ClickHouse, table: Table, *more: Any) -> None:
        again.append(table.name)
        whole(db, table, *more)

    with monkeypatch.context() as watched:
        watched.setattr(tables, "load", noted)
        done = restore(settings, folder, replace=True)
    assert done.resumed and done.rows == made.rows and stored(stand) == wanted
    assert not set(again) & set(loaded), "what was loaded is not loaded again"
    with ClickHouse(stand.settings) as db:
        assert journal.under_way(db) is None
    stand.sink()
    flow(stand, 3)
    stand.check()


def test_tables_that_operations_keep_for_a_while_are_in_no_backup(db: ClickHouse) -> None:
    assert all(map(tables.is_temporary, (NEW, journal.TABLE, "readings_before", "readings_rebuilt")))
    assert not any(tables.is_temporary(table.name) for table in tables.tables(db))
