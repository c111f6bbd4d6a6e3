"""How far a restore has come, in ClickHouse itself: one that broke off goes on when the same command runs again."""

from typing import Final

from runtime.clickhouse.client import ClickHouse

TABLE: Final = "restore_journal"
"""There while a restore is under way: a row for each table that is loaded, and one with no table for its beginning."""


def under_way(db: ClickHouse) -> str | None:
    """The backup that is being restored, or None."""
    there = db.rows(
        "SELECT count() FROM system.tables WHERE database = {database:String} AND name = {table:String}",
        {"database": db.database, "table": TABLE},
    )
    if not there[0][0]:
        return None
    found = db.rows(f"SELECT backup FROM {TABLE} WHERE loaded = '' ORDER BY at DESC LIMIT 1")
    return str(found[0][0]) if found else None


def begin(db: ClickHouse, backup: str) -> None:
    """From here on the tables belong to this backup."""
    end(db)
    db.command(
        f"CREATE TABLE {TABLE} (backup String, loaded String, at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'))"
        " ENGINE = MergeTree ORDER BY at COMMENT 'A restore that is not finished: run it again'"
    )
    note(db, backup, "")


def note(db: ClickHouse, backup: str, table: str) -> None:
    """A table is loaded."""
    db.command(f"INSERT INTO {TABLE} (backup, loaded) SELECT '{backup}', '{table}'", insert_deduplicate=0)


def loaded(db: ClickHouse) -> set[str]:
    """The tables that are loaded."""
    return {str(table) for (table,) in db.rows(f"SELECT loaded FROM {TABLE} WHERE loaded != ''")}


def end(db: ClickHouse) -> None:
    db.command(f"DROP TABLE IF EXISTS {TABLE} SYNC")
