"""Refreshable views, refreshed now."""

from runtime.clickhouse.client import ClickHouse


def refresh(db: ClickHouse) -> None:
    db.command("SYSTEM REFRESH VIEW rollup_1h")
    db.command("SYSTEM WAIT VIEW rollup_1h")
