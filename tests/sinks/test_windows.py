"""The ledger's section `windows`: readings = counted + open + texts + refused + in flight + difference."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.clickhouse.client import ClickHouse
from schemas import aggregates
from sinks import files, migrate
from sinks.adapters.tables import Tables
from sinks.core.logs import LOGS
from sinks.ledger import look
from sinks.settings import MigrationSettings
from sinks.verify import verify
from tests.servers import ClickHouseServer
from tests.sinks.conftest import Stand, eventually
from tests.sinks.flows import ranges_of
from tests.support.records import Chain


def fill(database: MigrationSettings, make: Callable[[Chain], object]) -> Chain:
    """All tables as a sink would leave them."""
    parts, chain = ranges_of(make, stages=True)
    tables = Tables(database)
    for topic, part in parts.items():
        for insert in LOGS[topic].plan(part):
            tables.insert(insert, check=False)
    tables.close()
    return chain


def windows(db: ClickHouse) -> dict[str, int]:
    return look(db.client)["windows"]


def change(db: ClickHouse, statement: str) -> None:
    db.command(f"ALTER TABLE {statement}", mutations_sync=2)


def busy(chain: Chain) -> None:
    for i in range(12):
        chain.data(30)
        if i % 3 == 2:
            chain.tick(1_700_000_000_000 + i * 1000)


def test_the_windows_of_nothing_are_zero(db: ClickHouse) -> None:
    assert set(windows(db).values()) == {0}


def test_every_reading_is_found_in_windows(db: ClickHouse, database: MigrationSettings) -> None:
    chain = fill(database, busy)
    assert chain.stages is not None
    expected = {"readings": chain.expected.readings.total(), "in_flight": 0, "difference": 0}
    assert windows(db) == expected | chain.stages.expected.windows


def test_while_nobody_counts_windows_all_readings_are_in_flight(db: ClickHouse, database: MigrationSettings) -> None:
    fill(database, busy)
    db.command("TRUNCATE TABLE ledger_derived")
    db.command("TRUNCATE TABLE aggregates_1m")
    found = windows(db)
    assert found["readings"] == found["in_flight"] > 0
    assert sum(found.values()) == 2 * found["readings"]


# ---- of many records: 10 raw records a tick, 9 of them with 20 readings; 170 of 180 are in windows, 10 stay open

TICKS = 600
READINGS, COUNTED = 180 * TICKS, 170 * TICKS


@pytest.fixture
def many(db: ClickHouse, database: MigrationSettings) -> ClickHouse:
    def time(tick: str) -> str:
        return f"fromUnixTimestamp64Milli(toInt64(if({tick} = 0, 0, 1700000000000 + {tick} * 1000)), 'UTC')"

    for partition in (0, 3):
        db.command(
            "INSERT INTO ledger_facts (raw_partition, raw_offset, kind, accepted, readings, received_from, append_time,"
            f" time) SELECT {partition}, number, if(number % 10 = 9, 'tick', 'data'), if(number % 10 = 9, 0, 10),"
            f" if(number % 10 = 9, 0, 20), now64(3), now64(3), {time('toInt64(intDiv(number + 1, 10))')}"
            f" FROM numbers({10 * TICKS})"
        )
        db.command(
            "INSERT INTO ledger_derived (topic, raw_partition, raw_offset, prev, offset, kind, rows, since, time,"
            " readings, folded, emitted, open, append_time)"
            f" SELECT 'telemetry.aggregates', {partition}, number * 10 + 9, toInt64(number) * 10 - 1, number, 'tick',"
            f" 17, {time('toInt64(number)')}, {time('toInt64(number + 1)')}, 180, 180, 170, 10 * (number + 1), now64(3)"
            f" FROM numbers({TICKS})"
        )
        db.command(
            "INSERT INTO aggregates_1m (device, window_start, count, append_time, raw_partition, raw_offset, row)"
            f" SELECT 'd', now(), 10, now64(3), {partition}, intDiv(number, 17) * 10 + 9, number % 17"
            f" FROM numbers({17 * TICKS})"
        )
    return db


def section(ticks: int = TICKS, difference: int = 0) -> dict[str, int]:
    """What must be found when `ticks` of one partition are accounted for, and all of the other."""
    return {
        "readings": 2 * READINGS,
        "counted": COUNTED + 170 * ticks,
        "open": 10 * (TICKS + ticks),
        "texts": 0,
        "refused": 0,
        "in_flight": 180 * (TICKS - ticks),
        "difference": difference,
    }


def test_many_records_are_proven_by_their_sums(many: ClickHouse) -> None:
    assert windows(many) == section()
    assert many.rows("SELECT count(), countIf(proven) FROM ledger_window_spans WHERE records > 0") == [(8, 8)]
    assert many.rows("SELECT count() FROM ledger_window_doubts") == [(0,)]


def test_sums_come_from_projections(many: ClickHouse) -> None:
    for table, span in (("ledger_facts", "time"), ("ledger_derived", "since")):
        key = f"intDiv(raw_offset, 1024), intDiv(toUnixTimestamp64Milli({span}), 262144)"
        of_topic = "topic," if table == "ledger_derived" else ""
        sql = (
            f"SELECT {key}, sum(readings) FROM {table} GROUP BY {of_topic} raw_epoch, raw_partition, {key}"
            " SETTINGS force_optimize_projection = 1"
        )
        assert many.rows(sql)


@pytest.mark.parametrize("tick", [3, 250, 599])
def test_readings_that_windows_never_read_are_a_difference(many: ClickHouse, tick: int) -> None:
    """One too few and one too many do not cancel."""
    where = "topic = 'telemetry.aggregates' AND raw_partition = 3 AND raw_offset"
    change(many, f"ledger_derived UPDATE readings = 179, folded = 179, open = open - 1 WHERE {where} = {10 * tick + 9}")
    change(many, f"ledger_derived UPDATE readings = 181, folded = 181 WHERE {where} = {10 * tick - 1}")
    found = windows(many)
    assert found["difference"] - abs(found["open"] - 20 * TICKS) == 2
    assert found["readings"] == 2 * READINGS


@pytest.mark.parametrize("tick", [3, 250, 599])
def test_rows_lost_and_doubled_do_not_cancel(many: ClickHouse, tick: int) -> None:
    change(many, f"aggregates_1m DELETE WHERE raw_partition = 3 AND raw_offset = {10 * tick + 9} AND row = 4")
    many.command(
        "INSERT INTO aggregates_1m (device, window_start, count, append_time, raw_partition, raw_offset, row)"
        f" VALUES ('d', now(), 10, now(), 3, {10 * tick - 1}, 99)"
    )
    assert windows(many) == section(difference=20)


@pytest.mark.parametrize("tick", [3, 250, 599])
def test_a_fact_that_was_lost_is_a_difference(many: ClickHouse, tick: int) -> None:
    change(many, f"ledger_facts DELETE WHERE raw_partition = 3 AND raw_offset = {10 * tick + 5}")
    found = windows(many)
    assert (found["readings"], found["difference"]) == (2 * READINGS - 20, 20)


@pytest.mark.parametrize("tick", [0, 3, 250, 598])
def test_a_lost_record_stops_the_account_there(many: ClickHouse, tick: int) -> None:
    change(many, f"ledger_derived DELETE WHERE raw_partition = 3 AND raw_offset = {10 * tick + 9}")
    assert windows(many) == section(tick)


@pytest.mark.parametrize("tick", [1, 250, 599])
def test_what_the_ledger_does_not_know_yet_is_in_flight(many: ClickHouse, tick: int) -> None:
    """Rows go before the ledger's: that they are there already is no difference."""
    change(many, f"ledger_derived DELETE WHERE raw_partition = 3 AND raw_offset >= {10 * tick}")
    assert windows(many) == section(tick)


@pytest.mark.parametrize("offset", [0, 1, 9, 10, 2503, 5999])
def test_windows_that_are_ahead_of_the_facts_wait_for_them(many: ClickHouse, offset: int) -> None:
    change(many, f"ledger_facts DELETE WHERE raw_partition = 3 AND raw_offset >= {offset}")
    found, known = windows(many), sum(20 for o in range(offset) if o % 10 != 9)
    accounted = 180 * ((offset + 1) // 10)  # the tick that is waited for holds no reading itself
    assert found["difference"] == 0
    assert found["readings"] == READINGS + known
    assert found["in_flight"] == known - accounted


def test_a_record_that_stands_twice_changes_nothing(many: ClickHouse) -> None:
    columns = "topic, raw_partition, raw_offset, prev, kind, rows, since, time, readings, folded, emitted, open"
    many.command(
        f"INSERT INTO ledger_derived ({columns}, append_time) SELECT {columns}, append_time FROM ledger_derived"
        " WHERE raw_offset IN (39, 5999)"
    )
    found = windows(many)
    assert (found["difference"], found["in_flight"], found["counted"]) == (0, 0, 2 * COUNTED)


def test_what_a_stage_says_of_itself_must_add_up(many: ClickHouse) -> None:
    change(many, "ledger_derived UPDATE texts = 3 WHERE raw_partition = 3 AND raw_offset = 39")
    change(many, "ledger_derived UPDATE open = open + 5 WHERE raw_partition = 0 AND raw_offset = 5999")
    found = windows(many)
    assert (found["difference"], found["texts"], found["open"]) == (8, 3, 20 * TICKS + 5)


def test_what_retention_took_is_no_difference(many: ClickHouse) -> None:
    """Of the tables' rows, which go first, and of the ledger's own beginning."""
    columns = "topic, raw_partition, raw_offset, prev, rows, since, time, readings, folded, emitted, open"
    many.command(
        f"INSERT INTO ledger_derived ({columns}, append_time) SELECT {columns}, now() - INTERVAL 500 DAY"
        " FROM ledger_derived WHERE raw_offset < 3000"
    )
    change(many, "ledger_derived DELETE WHERE raw_offset < 3000 AND append_time > now() - INTERVAL 1 DAY")
    change(many, "aggregates_1m DELETE WHERE raw_offset < 2900")
    assert windows(many) == section()
    change(many, "ledger_facts DELETE WHERE raw_offset < 1003")
    change(many, "ledger_derived DELETE WHERE raw_offset < 1000")
    found = windows(many)
    assert (found["difference"], found["in_flight"]) == (0, 0)
    accounted = sum(found[name] for name in ("counted", "open", "texts", "refused"))
    assert 0 < found["readings"] == accounted < 2 * READINGS


def test_a_stage_that_began_in_the_middle_shows_what_it_left_out(many: ClickHouse) -> None:
    for table in ("ledger_derived", "aggregates_1m"):
        change(many, f"{table} DELETE WHERE raw_partition = 3 AND raw_offset < 3000")
    first = "raw_partition = 3 AND raw_offset = 3009"
    change(many, f"ledger_derived UPDATE prev = -1, since = fromUnixTimestamp64Milli(toInt64(0)) WHERE {first}")
    change(many, "ledger_derived UPDATE open = open - 3000 WHERE raw_partition = 3")
    found = windows(many)
    assert (found["difference"], found["in_flight"]) == (180 * 300, 0)


def test_an_older_platform_keeps_its_ledger(
    clickhouse: ClickHouseServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Rows that were stored before there were windows are summed as those that come after."""
    url = clickhouse.url.rsplit("/", 1)[0] + f"/older_{os.getpid()}"
    settings = MigrationSettings(url, clickhouse.password_file)
    for migration in files.migrations()[:4]:
        (tmp_path / migration.name).write_text(migration.sql)
    with monkeypatch.context() as older:
        older.setattr(files, "FOLDER", tmp_path)
        migrate.migrate(settings)
    db = ClickHouse(settings)
    columns = "raw_partition, raw_offset, kind, accepted, readings, received_from, append_time, time"
    values = "0, number, 'data', 1, 2, now(), now(), now() - INTERVAL 1 DAY + number"
    db.command(f"INSERT INTO ledger_facts ({columns}) SELECT {values} FROM numbers(3000)")
    migrate.migrate(settings)
    eventually(lambda: db.rows(f"SELECT count() FROM system.mutations WHERE {WAITING}") == [(0,)], "sums are made")
    assert windows(db) == dict.fromkeys(windows(db), 0) | {"readings": 6000, "in_flight": 6000}
    key = "raw_epoch, raw_partition, intDiv(raw_offset, 1024), intDiv(toUnixTimestamp64Milli(time), 262144)"
    assert db.rows(
        f"SELECT {key}, sum(readings) FROM ledger_facts GROUP BY {key} SETTINGS force_optimize_projection = 1"
    )
    assert db.rows("SELECT sum(events) FROM ledger_facts") == [(0,)]
    db.command(f"DROP DATABASE `{db.database}`")
    db.close()


WAITING = "database = currentDatabase() AND NOT is_done"

# ---- the walk


@pytest.mark.long
def test_verify_finds_what_was_damaged(make_stand: Callable[[int], Stand]) -> None:
    stand = make_stand(1)
    for _ in range(6):
        stand.chains[0].flow(10)
    stand.sink()
    stand.check()
    db, stages = stand.db(), stand.chains[0].stages
    assert stages is not None
    assert list(verify(db, stand.kafka_settings)) == []
    assert windows(db) == (
        {"readings": stand.expected().readings.total(), "in_flight": 0, "difference": 0} | stages.expected.windows
    )
    tick = db.rows("SELECT min(raw_offset) FROM ledger_facts WHERE kind = 'tick' AND raw_offset > 6")[0][0]
    change(db, f"ledger_derived DELETE WHERE topic = 'telemetry.presence' AND raw_offset = {tick}")
    for table in ("aggregates_1m", "anomalies", "incidents", "presence", "events"):
        change(db, f"{table} DELETE WHERE raw_offset IN (SELECT min(raw_offset) FROM {table})")
    change(db, f"ledger_derived UPDATE emitted = 77 WHERE topic = '{aggregates.NAME}' AND raw_offset = {tick}")
    findings = "\n".join(verify(db, stand.kafka_settings))
    for text in (
        f"ledger_derived has no record for the tick: telemetry.presence epoch 0 partition 0 offset {tick}",
        "ledger_derived has a gap before: telemetry.presence",
        "telemetry.presence[0] offset",
        "aggregates_1m and group_aggregates_1m: epoch 0",
        "anomalies: epoch 0",
        "incidents: epoch 0",
        "presence: epoch 0",
        "events: epoch 0",
        "telemetry.aggregates[0] offset",
        "windows: difference",
    ):
        assert text in findings, text
