"""docs/tables.md and docs/columns.md say what is there, and what they say can be run."""

import re
from pathlib import Path

import pytest

from runtime.clickhouse.client import ClickHouse
from sinks.core.logs import LOGS
from tests.sinks.busy import busy
from tests.sinks.flows import ranges_of

DOCS = Path(__file__).parents[2] / "docs"
TABLES = (DOCS / "tables.md").read_text()
SAMPLES = re.findall(r"```sql\n(.*?)```", TABLES, re.DOTALL)
VIEW = re.compile(r"`(\w+)\(([\w\s,]+)\)`")


@pytest.fixture
def filled(db: ClickHouse) -> ClickHouse:
    parts, _chain = ranges_of(busy, stages=True)
    for topic, part in parts.items():
        for insert in LOGS[topic].plan(part):
            db.insert(insert.table, insert.rows, insert.token)
    db.command("INSERT INTO devices (device, labels) VALUES ('dev-3-1', {'site': 'north'})")
    return db


@pytest.mark.parametrize("sql", SAMPLES, ids=lambda sql: " ".join(sql.split())[:60])
def test_a_sample_query_runs(filled: ClickHouse, sql: str) -> None:
    filled.rows(sql)


def _columns(db: ClickHouse, engine: str) -> dict[str, list[str]]:
    rows = db.rows(
        "SELECT t.name, groupArray(c.name) FROM (SELECT * FROM system.columns ORDER BY position) AS c"
        " JOIN system.tables AS t ON t.database = c.database AND t.name = c.table"
        f" WHERE t.database = currentDatabase() AND t.engine LIKE '{engine}' GROUP BY t.name"
    )
    return dict(rows)


def test_every_column_of_every_table_is_listed(db: ClickHouse) -> None:
    page = (DOCS / "columns.md").read_text()
    listed = {
        name: re.findall(r"^\| `(\w+)` \|", body, re.MULTILINE)
        for name, body in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    }
    there = _columns(db, "%MergeTree")
    del there["migrations"]
    assert {name: sorted(found) for name, found in listed.items()} == {n: sorted(f) for n, f in there.items()}


def test_views_are_described_with_their_columns(db: ClickHouse) -> None:
    there = _columns(db, "View")
    described = {name: re.split(r",\s+", columns.strip()) for name, columns in VIEW.findall(TABLES)}
    assert {name: there[name] for name in described} == described
    steps = {name for name in there if name.startswith("ledger_")}
    assert {name for name in there if f"`{name}`" not in TABLES and f"`{name}(" not in TABLES} <= steps


def test_numbers_by_hand_are_those_of_the_view(filled: ClickHouse) -> None:
    """The sample that spells the sketch out says what the view says."""
    filled.command("TRUNCATE TABLE aggregates_1h")
    filled.command(
        "INSERT INTO aggregates_1h (device, metric, window_start, count, sum, min, max, sketch_buckets, sketch_counts)"
        " VALUES ('dev-3-1', 'temperature', toStartOfHour(now()), 9, 180, 0, 100, [65792, 65856, 65860], [4, 3, 2])"
    )
    by_hand = next(sql for sql in SAMPLES if "now_at" in sql)
    assert filled.rows(f"SELECT p95 FROM ({by_hand})") == filled.rows("SELECT p95 FROM windows_1h")
