"""What migrations created and somebody dropped is named, and created again by who may."""

from collections.abc import Iterator

import pytest

from runtime.clickhouse.client import ClickHouse
from runtime.errors import RefusedError
from sinks import files
from sinks.adapters.tables import Tables
from sinks.core.logs import LOGS
from sinks.core.schema import Found, Missing, Schema
from sinks.migrate import check_migrated, migrate
from sinks.schema import found, missing
from sinks.settings import MigrationSettings
from tests.servers import ClickHouseServer


@pytest.fixture(scope="module")
def own(clickhouse: ClickHouseServer) -> Iterator[MigrationSettings]:
    """A database of this module's own: its tables are dropped."""
    settings = MigrationSettings(clickhouse.url.rsplit("/", 1)[0] + "/dropped", clickhouse.password_file)
    migrate(settings)
    yield settings
    with ClickHouse(settings) as db:
        db.command("DROP DATABASE dropped")


def test_the_parser_knows_each_table_column_index_projection_and_view_of_the_migrations(own: MigrationSettings) -> None:
    wanted = Schema.of(m.sql for m in files.migrations())
    with ClickHouse(own) as db:
        there = found(db)
    assert set(wanted.tables) | set(wanted.views) == there.tables - {"migrations"}
    for kind in ("column", "index", "projection"):
        expected = {(part.table, part.part) for part in wanted.parts if part.kind == kind}
        tables = set(wanted.tables)
        assert expected == {(t, p) for (k, t), ps in there.parts.items() if k == kind and t in tables for p in ps}, kind


def test_parts_of_a_missing_table_are_not_named() -> None:
    schema = Schema.of(["CREATE TABLE IF NOT EXISTS a (x Int8, INDEX i x TYPE minmax) ENGINE = ${engine} ORDER BY x"])
    assert schema.missing(Found(set(), {})) == [Missing("table", "a")]


SHAPE = "SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase() ORDER BY name"


def test_a_dropped_table_is_named_by_the_sink_and_created_again_by_init_with_everything_on_it(
    own: MigrationSettings,
) -> None:
    with ClickHouse(own) as db:
        before = db.rows(SHAPE)
        for table in ("readings", "ledger_derived", "aggregates_1m"):
            db.command(f"DROP TABLE {table}")
        lost = [Missing("table", table) for table in ("readings", "ledger_derived", "aggregates_1m")]
        assert sorted(missing(db)) == sorted(lost)
        for start in (migrate, check_migrated):
            with pytest.raises(RefusedError, match=r"lacks readings, .*`millrace rebuild TABLE`.*`millrace init`"):
                start(own)
        assert migrate(own, restore=True) == []
        assert missing(db) == [] and db.rows(SHAPE) == before
        assert migrate(own) == []


def test_a_dropped_view_column_index_or_projection_is_created_again_by_any_migration(own: MigrationSettings) -> None:
    with ClickHouse(own) as db:
        for statement in (
            "DROP VIEW windows",
            "DROP VIEW rollup_1h",
            "ALTER TABLE events DROP INDEX by_raw_offset",
            "ALTER TABLE readings DROP PROJECTION by_bucket",
            "ALTER TABLE aggregates_1h DROP COLUMN m2",
        ):
            db.command(statement, mutations_sync=2)
        assert {str(one) for one in missing(db)} == {
            "view windows",
            "view rollup_1h",
            "index events.by_raw_offset",
            "projection readings.by_bucket",
            "column aggregates_1h.m2",
        }
        check_migrated(own)
        migrate(own)
        assert missing(db) == []
        db.rows("SELECT stddev FROM windows_1h")


def test_a_sink_whose_table_is_dropped_while_it_runs_stops_and_names_the_way_out(own: MigrationSettings) -> None:
    tables = Tables(own)
    with ClickHouse(own) as db:
        db.command("DROP TABLE ledger_facts")
        with pytest.raises(RefusedError, match="`millrace rebuild TABLE`"):
            tables.ledger_end(LOGS["telemetry.readings"], 0)
        migrate(own, restore=True)
    assert tables.ledger_end(LOGS["telemetry.readings"], 0) is None
    tables.close()
