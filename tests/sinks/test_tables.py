"""Tables, migrations, inserts and the ledger against ClickHouse's engine."""

import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pytest
from click.testing import CliRunner

from cli.ledger import ledger as ledger_command
from cli.ledger import line
from cli.sql import sql as sql_command
from runtime.clickhouse.client import ClickHouse
from runtime.errors import FatalError, RefusedError, RetryableError
from runtime.stage.provenance import START
from sinks import files
from sinks import migrate as migrations
from sinks.adapters.tables import Tables
from sinks.core.inserts import Insert
from sinks.core.logs import LOGS
from sinks.core.plan import plan_raw, plan_readings
from sinks.ledger import ledger_totals
from sinks.migrate import migrate
from sinks.settings import MigrationSettings
from tests.servers import ClickHouseServer
from tests.sinks.flows import range_of
from tests.support.records import Chain

# ---- migrations


def _migrate(settings: MigrationSettings, start: Barrier) -> list[str]:
    start.wait(60)
    return migrate(settings)


def test_four_processes_at_once_apply_each_migration_once(clickhouse: ClickHouseServer) -> None:
    settings = MigrationSettings(clickhouse.url.rsplit("/", 1)[0] + "/together", clickhouse.password_file)
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(4) as pool:
        start = manager.Barrier(4)
        applied = pool.starmap(_migrate, [(settings, start)] * 4)
    names = [m.name for m in migrations.migrations()]
    assert sorted(name for one in applied for name in one) == names
    db = ClickHouse(settings)
    assert db.rows("SELECT name, count() FROM migrations WHERE event = 'applied' GROUP BY name ORDER BY name") == [
        (name, 1) for name in names
    ]
    assert migrate(settings) == []
    db.command("DROP DATABASE together")


def test_every_column_has_a_comment(db: ClickHouse) -> None:
    bare = db.rows(
        "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment = '' AND table IN"
        " (SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree')"
    )
    assert bare == []


def test_a_claim_left_behind_by_a_killed_process_is_passed_over(
    db: ClickHouse, database: MigrationSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(files.FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "9001_extra.sql").write_text("CREATE TABLE IF NOT EXISTS extra (a Int8) ENGINE = ${engine} ORDER BY a")
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    monkeypatch.setattr(migrations, "CLAIM_S", 0.3)
    migrations._note(db, migrations.migrations()[0], "claimed", "dead/1")
    assert migrate(database) == ["9001_extra.sql"]
    assert db.rows("SELECT count() FROM extra") == [(0,)]
    forget(db, "9001_extra.sql")


def forget(db: ClickHouse, migration: str) -> None:
    """Leave the database to the next test as this release knows it."""
    db.command(f"ALTER TABLE migrations DELETE WHERE name = '{migration}'", mutations_sync=2)


def test_a_sink_that_may_not_change_tables_waits_until_somebody_has(
    db: ClickHouse, database: MigrationSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    migrations.check_migrated(database)
    shutil.copytree(files.FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "9002_extra.sql").write_text("CREATE TABLE IF NOT EXISTS more (a Int8) ENGINE = ${engine} ORDER BY a")
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    with pytest.raises(RetryableError, match=r"9002_extra\.sql.*millrace init"):
        migrations.check_migrated(database)
    migrate(database)
    migrations.check_migrated(database)
    monkeypatch.undo()
    for check in (migrate, migrations.check_migrated):
        with pytest.raises(RefusedError, match=r"newer release: it has 9002_extra\.sql.*upgrade\.md"):
            check(database)
    forget(db, "9002_extra.sql")


def test_a_sink_that_may_not_change_tables_waits_for_a_database_that_is_not_there_yet(
    clickhouse: ClickHouseServer,
) -> None:
    settings = MigrationSettings(clickhouse.url.rsplit("/", 1)[0] + "/nobody_made_it", clickhouse.password_file)
    with pytest.raises(RetryableError, match="millrace init"):
        migrations.check_migrated(settings)


def test_a_migration_changed_after_it_was_applied_is_refused(
    db: ClickHouse, database: MigrationSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(files.FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "0001_readings.sql").write_text("SELECT 1")
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    with pytest.raises(RefusedError, match="was changed after it was applied"):
        migrate(database)
    (tmp_path / "0001_other.sql").write_text("SELECT 1")
    with pytest.raises(RefusedError, match="one number"):
        migrate(database)


def test_retention_follows_the_setting(db: ClickHouse, database: MigrationSettings) -> None:
    shorter = MigrationSettings(database.clickhouse_url, database.clickhouse_password_file, retention_days=30)
    migrate(shorter)
    found = db.rows("SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = 'readings'")
    assert "toDateTime(received_at) + toIntervalDay(30)" in found[0][0]
    migrate(database)


def test_clickhouse_away_is_retryable_and_bad_statements_are_not(db: ClickHouse) -> None:
    with pytest.raises(RetryableError):
        ClickHouse(MigrationSettings("http://millrace@127.0.0.1:1/x"))
    with pytest.raises(FatalError, match="ClickHouse rejects"):
        db.command("SELECT nonsense FROM readings")
    with pytest.raises(RefusedError, match="MILLRACE_CLICKHOUSE_URL"):
        ClickHouse(MigrationSettings("tcp://host"))


# ---- inserts


def plan_of(make: Callable[[Chain], object]) -> tuple[list[Insert], Chain]:
    raw, readings, chain = range_of(make)
    return [*plan_readings(readings), *plan_raw(raw)], chain


def count(db: ClickHouse, table: str) -> int:
    return int(db.rows(f"SELECT count() FROM {table}")[0][0])


def test_an_insert_repeated_late_or_asked_about_changes_nothing(db: ClickHouse, database: MigrationSettings) -> None:
    tables = Tables(database)
    plan, _chain = plan_of(lambda c: (c.data(40, months=3), c.tick()))
    for check in (False, False, True, False, True):
        for insert in plan:
            tables.insert(insert, check)
    for insert in plan:
        assert count(db, insert.table) == insert.rows.num_rows, insert.table
    tables.close()


def test_asking_first_covers_what_the_window_forgot_and_heals_half_an_insert(
    db: ClickHouse, database: MigrationSettings
) -> None:
    """Half an insert: a server that died between two months of one."""
    tables = Tables(database)
    plan, _chain = plan_of(lambda c: (c.data(40, months=3), c.tick()))
    whole = plan[0]
    half = Insert(whole.table, whole.rows.slice(0, whole.rows.num_rows // 2), "forgotten")
    tables.insert(half, check=False)
    for insert in plan:
        tables.insert(insert, check=True)
    tables.insert(Insert(whole.table, whole.rows, "another name"), check=True)
    assert count(db, "readings") == whole.rows.num_rows
    assert db.rows("SELECT count() - uniqExact(raw_offset, raw_row, reading_index) FROM readings") == [(0,)]


def test_nulls_and_texts_arrive_as_they_are(db: ClickHouse, database: MigrationSettings) -> None:
    plan, _chain = plan_of(lambda c: (c.data(30), c.tick()))
    rows = plan[0].rows.slice(0, 2)
    values, texts = pa.array([None, 1.5], pa.float64()), pa.array(["on", None], pa.string())
    channel = pa.array([None, "climate"]).dictionary_encode()
    for name, column in (("value", values), ("text", texts), ("channel", channel)):
        rows = rows.set_column(rows.column_names.index(name), name, column)
    Tables(database).insert(Insert("readings", rows, "n"), check=False)
    assert db.rows("SELECT value, text, channel, replay_of FROM readings ORDER BY value NULLS FIRST") == [
        (None, "on", "", None),
        (1.5, None, "climate", None),
    ]


def test_one_insert_may_hold_dates_from_1970_to_2100(db: ClickHouse, database: MigrationSettings) -> None:
    plan, _chain = plan_of(lambda c: (c.data(30), c.tick()))
    rows = plan[0].rows.slice(0, 2)
    times = pa.array([0, 4_102_444_799_000], pa.int64()).cast(pa.timestamp("ms", "UTC"))
    rows = rows.set_column(rows.column_names.index("time"), "time", times)
    Tables(database).insert(Insert("readings", rows, "n"), check=False)
    assert db.rows("SELECT toString(min(time)), toString(max(time)) FROM readings") == [
        ("1970-01-01 00:00:00.000", "2099-12-31 23:59:59.000")
    ]


def test_where_the_tables_end(db: ClickHouse, database: MigrationSettings) -> None:
    tables = Tables(database)
    facts = LOGS["telemetry.readings"]
    assert tables.ledger_end(facts, 3) is None
    plan, _chain = plan_of(lambda c: (c.data(40), c.data(40), c.tick()))
    for insert in plan:
        if insert.table != "ledger_facts":
            tables.insert(insert, check=False)
    start = tables.furthest(facts, 0, 3, START)
    assert (start.epoch, start.src) == (0, 1), "rows without facts are seen"
    assert tables.furthest(facts, 0, 2, START).src == -1, "of this partition only"
    for insert in plan:
        tables.insert(insert, check=True)
    end = tables.ledger_end(facts, 3)
    assert end is not None
    assert (end.highest.src, end.epoch, end.offset) == (2, 0, 2)
    assert tables.furthest(facts, 0, 3, end.highest) == end.highest
    received = tables.ledger_end(LOGS["telemetry.raw"], 3)
    assert received is not None
    assert (received.epoch, received.offset) == (0, 2)


# ---- the ledger


def fill(database: MigrationSettings, make: Callable[[Chain], object]) -> Chain:
    tables = Tables(database)
    plan, chain = plan_of(make)
    for insert in plan:
        tables.insert(insert, check=False)
    tables.close()
    return chain


def test_the_ledger_of_nothing_is_zero(db: ClickHouse) -> None:
    totals = ledger_totals(db.client)
    assert {n for section in totals.values() for n in section.values()} == {0}


def test_the_ledger_adds_up(db: ClickHouse, database: MigrationSettings) -> None:
    chain = fill(database, lambda c: (c.data(30, platform=4), c.data(30), c.tick()))
    expected = chain.expected
    totals = ledger_totals(db.client)
    assert totals["messages"] == {
        "received": 60,
        "accepted": expected.accepted,
        "denied": expected.denied.total(),
        "dead_lettered": expected.dead_letters.total(),
        "duplicates": expected.duplicates,
        "in_flight": 0,
        "difference": 0,
        "replayed": 0,
        "missing": 0,
        "platform": 4,
    }
    stored = expected.readings.total()
    assert totals["readings"] == {"produced": stored, "stored": stored, "in_flight": 0, "difference": 0}
    assert line(totals).startswith('{"messages":{"received":60,"accepted":')


def test_what_raw_holds_beyond_the_facts_is_in_flight(db: ClickHouse, database: MigrationSettings) -> None:
    fill(database, lambda c: (c.data(30), c.data(20), c.tick()))
    db.command("ALTER TABLE ledger_facts DELETE WHERE raw_offset >= 1", mutations_sync=2)
    totals = ledger_totals(db.client)
    assert (totals["messages"]["received"], totals["messages"]["in_flight"]) == (50, 20)
    assert totals["messages"]["difference"] == totals["readings"]["difference"] == 0


@pytest.mark.parametrize("offset", [100, 1500])
def test_one_lost_and_one_doubled_reading_do_not_cancel(
    db: ClickHouse, database: MigrationSettings, offset: int
) -> None:
    """In a bucket whose sums are proven (offset 100 of 1,600) and in the open one."""
    _many(db, 1600)
    assert ledger_totals(db.client)["readings"] == {"produced": 3200, "stored": 3200, "in_flight": 0, "difference": 0}
    db.command(f"ALTER TABLE readings DELETE WHERE raw_offset = {offset} AND reading_index = 0", mutations_sync=2)
    db.command(
        "INSERT INTO readings (device, metric, time, received_at, raw_partition, raw_offset, raw_row)"
        f" VALUES ('d', 'm', now(), now(), 3, {offset + 1}, 0)"
    )
    totals = ledger_totals(db.client)
    assert totals["readings"] == {"produced": 3200, "stored": 3200, "in_flight": 0, "difference": 2}
    assert totals["messages"]["difference"] == 0


def test_a_fact_that_says_another_number_is_a_difference(db: ClickHouse, database: MigrationSettings) -> None:
    _many(db, 1600)
    db.command("ALTER TABLE ledger_facts UPDATE accepted = accepted + 1 WHERE raw_offset = 7", mutations_sync=2)
    db.command("ALTER TABLE ledger_facts UPDATE denied = denied + 1 WHERE raw_offset = 1599", mutations_sync=2)
    assert ledger_totals(db.client)["messages"]["difference"] == 2


def test_a_fact_that_stands_twice_changes_nothing(db: ClickHouse, database: MigrationSettings) -> None:
    _many(db, 1600)
    before = ledger_totals(db.client)
    columns = "raw_epoch, raw_partition, raw_offset, kind, accepted, readings, received_from, append_time"
    db.command(f"INSERT INTO ledger_facts ({columns}) SELECT {columns} FROM ledger_facts WHERE raw_offset IN (5, 1550)")
    after = ledger_totals(db.client)
    assert (after["messages"], after["readings"]) == (before["messages"], before["readings"])


def test_a_lost_fact_stops_the_ledger_there(db: ClickHouse, database: MigrationSettings) -> None:
    """What comes after a gap is in flight until the gap is closed: it cannot be called stored."""
    _many(db, 3000)
    db.command("ALTER TABLE ledger_facts DELETE WHERE raw_offset = 1500", mutations_sync=2)
    totals = ledger_totals(db.client)
    assert (totals["messages"]["received"], totals["messages"]["accepted"]) == (3000, 1500)
    assert totals["messages"]["in_flight"] == 1500
    assert (totals["readings"]["stored"], totals["readings"]["in_flight"]) == (3000, 2998)


def test_readings_that_retention_took_are_no_difference(db: ClickHouse, database: MigrationSettings) -> None:
    _many(db, 1600, age="INTERVAL 500 DAY")
    db.command("OPTIMIZE TABLE readings FINAL")
    assert count(db, "readings") == 0
    totals = ledger_totals(db.client)
    assert totals["messages"]["difference"] == totals["readings"]["difference"] == 0


def _many(db: ClickHouse, records: int, age: str = "INTERVAL 0 DAY") -> None:
    """Records of one message and two readings each, without Kafka."""
    now = f"now64(3) - {age}"
    db.command(
        "INSERT INTO readings (device, metric, time, received_at, raw_partition, raw_offset, raw_row, reading_index)"
        f" SELECT 'd', 'm', {now}, {now}, 3, number DIV 2, 0, number % 2 FROM numbers({2 * records})"
    )
    db.command(
        "INSERT INTO ledger_facts (raw_partition, raw_offset, kind, accepted, readings, received_from, append_time)"
        f" SELECT 3, number, 'data', 1, 2, {now}, {now} FROM numbers({records})"
    )
    db.command(
        "INSERT INTO ledger_received (raw_partition, raw_offset, kind, received, append_time)"
        f" SELECT 3, number, 'data', 1, {now} FROM numbers({records})"
    )


# ---- the commands


@pytest.fixture
def environment(database: MigrationSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_CLICKHOUSE_URL", database.clickhouse_url)
    monkeypatch.setenv("MILLRACE_CLICKHOUSE_PASSWORD_FILE", str(database.clickhouse_password_file))


@pytest.mark.usefixtures("environment")
def test_sql_prints_lines_for_a_pipe_or_any_format(db: ClickHouse) -> None:
    query = "SELECT 1.5 AS value, 'a' AS name, NULL AS nothing, toDate('2026-01-02') AS day"
    run = CliRunner().invoke(sql_command, [query])
    assert run.exit_code == 0
    assert [text.split() for text in run.output.splitlines()] == [
        ["value", "name", "nothing", "day"],
        ["1.5", "a", "\\N", "2026-01-02"],
    ]
    run = CliRunner().invoke(sql_command, ["SELECT 1 AS a", "--format", "JSONEachRow"])
    assert run.output == '{"a":1}\n'


@pytest.mark.usefixtures("environment")
def test_the_ledger_command_prints_the_line_of_json(db: ClickHouse, database: MigrationSettings) -> None:
    fill(database, lambda c: (c.data(30), c.tick()))
    run = CliRunner().invoke(ledger_command, ["--json"])
    assert run.output == line(ledger_totals(db.client)) + "\n"
    assert "dead lettered" in CliRunner().invoke(ledger_command, []).output
