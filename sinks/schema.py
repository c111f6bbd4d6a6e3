"""What the database holds, against what its migrations created: `millrace doctor` and migrations ask here."""

from collections.abc import Collection
from typing import Final

from runtime.clickhouse.client import ClickHouse
from sinks.core.schema import Found, Kind, Missing, Schema
from sinks.files import migrations

_PARTS: Final[dict[Kind, str]] = {
    "column": "system.columns",
    "index": "system.data_skipping_indices",
    "projection": "system.projections",
}


def missing(db: ClickHouse, names: Collection[str] | None = None, views: bool = True) -> list[Missing]:
    """Tables, views, columns, indexes and projections that the migrations `names` (None: all) created and that are not
    in the database; empty when it is whole. Of a Distributed table columns alone are compared, and no materialized view
    is expected in its database. Raises RetryableError while ClickHouse is away.
    """
    wanted, there = applied(names), found(db)
    lacking = wanted.missing(there)
    if _is_distributed(db):
        lacking = [m for m in lacking if m.kind in ("table", "column") or (m.kind == "view" and not _local(wanted, m))]
    elif not views:
        lacking = [m for m in lacking if m.kind != "view" or _local(wanted, m)]
    return lacking


def applied(names: Collection[str] | None = None) -> Schema:
    """What these migrations (None: all) create."""
    return Schema.of(m.sql for m in migrations() if names is None or m.name in names)


def is_local(one: Missing, names: Collection[str]) -> bool:
    """Whether a view belongs beside the tables that hold rows."""
    return _local(applied(names), one)


def _local(wanted: Schema, view: Missing) -> bool:
    return wanted.views[view.table].startswith("CREATE MATERIALIZED")


def found(db: ClickHouse) -> Found:
    """What the database holds."""
    given = {"database": db.database}
    tables = db.rows("SELECT name FROM system.tables WHERE database = {database:String}", given)
    parts: dict[tuple[Kind, str], set[str]] = _Sets()
    for kind, source in _PARTS.items():
        for table, name in db.rows(f"SELECT table, name FROM {source} WHERE database = {{database:String}}", given):
            parts[kind, table].add(name)
    return Found({name for (name,) in tables}, parts)


class _Sets(dict[tuple[Kind, str], set[str]]):
    def __missing__(self, key: tuple[Kind, str]) -> set[str]:
        self[key] = set()
        return self[key]


def _is_distributed(db: ClickHouse) -> bool:
    asked = "SELECT count() FROM system.tables WHERE database = {database:String} AND engine = 'Distributed'"
    return db.rows(asked, {"database": db.database}) != [(0,)]
