"""Migrations: numbered SQL files, each applied once, in order, by whichever process claims it first.

ClickHouse has no transactions over DDL, so a file may be cut off in its middle: every statement must be harmless when
it runs again (IF NOT EXISTS, CREATE OR REPLACE VIEW). A claim is a row whose deduplication token lets only the first
insert through; a claim whose holder died is passed over after CLAIM_S.
"""

import hashlib
import logging
import os
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.errors import RefusedError, RetryableError
from schemas.sketch import quantile_sql
from sinks.adapters.clickhouse import ClickHouse, database_of, translated
from sinks.core.statements import fill, split
from sinks.settings import MigrationSettings

log = logging.getLogger(__name__)

_FOLDER: Final = Path(__file__).parent / "migrations"
CLAIM_S: Final = 30.0
WINDOW: Final = 100_000
"""Deduplication tokens that each table remembers."""
_DATA: Final = (
    *("readings", "readings_superseded", "denied", "dead_letters", "events"),
    *("aggregates_1m", "group_aggregates_1m", "anomalies", "incidents", "presence"),
)
_LONGER: Final = ("aggregates_1h", "ledger_received", "ledger_facts", "ledger_derived")
_NAME: Final = re.compile(r"(\d{4})_\w+\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()[:16]


def migrations() -> list[Migration]:
    """All files of sinks/migrations in order. Raises RefusedError where two have one number."""
    files = sorted(_FOLDER.iterdir(), key=lambda f: f.name)
    found = [Migration(f.name, f.read_text()) for f in files if _NAME.fullmatch(f.name)]
    numbers = [m.name[:4] for m in found]
    if len(set(numbers)) != len(numbers):
        raise RefusedError(f"two migrations have one number: {', '.join(m.name for m in found)}")
    return found


def migrate(settings: MigrationSettings) -> list[str]:
    """Bring the database to the newest form; returns the names of the migrations this process applied.

    May run in several processes at once. Raises RetryableError while ClickHouse is away.
    """
    _create_database(settings)
    db = ClickHouse(settings)
    try:
        db.command(_TABLE % fill("${engine} ORDER BY (name, event, at) SETTINGS ${window}", _values(settings)))
        applied = [m.name for m in migrations() if _apply(db, m, _values(settings))]
        _keep_retention(db, settings)
        return applied
    finally:
        db.close()


def check_migrated(settings: MigrationSettings) -> None:
    """For a sink that may not change tables. Raises RetryableError until all migrations are applied."""
    db = ClickHouse(settings)
    try:
        missing = [m.name for m in migrations() if not _is_applied(db, m)]
    finally:
        db.close()
    if missing:
        raise RetryableError(f"the tables lack {', '.join(missing)}: `millrace init` applies them")


_TABLE: Final = """CREATE TABLE IF NOT EXISTS migrations
(
    name String COMMENT 'file of sinks/migrations',
    event LowCardinality(String) COMMENT 'claimed or applied',
    checksum String COMMENT 'of the file',
    who String COMMENT 'host and process',
    at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when'
) ENGINE = %s COMMENT 'What was done to this database'"""


def _values(settings: MigrationSettings) -> Mapping[str, str]:
    replicated = settings.clickhouse_replicated
    window = (
        f"replicated_deduplication_window = {WINDOW}, replicated_deduplication_window_seconds = 604800"
        if replicated
        else f"non_replicated_deduplication_window = {WINDOW}"
    )
    return {
        "engine": "ReplicatedMergeTree" if replicated else "MergeTree",
        "replacing": "ReplicatedReplacingMergeTree" if replicated else "ReplacingMergeTree",
        "window": window,
        "retention_days": str(settings.retention_days),
        "ledger_days": str(settings.ledger_days),
        "database": database_of(settings),
        **{f"p{percent}": quantile_sql("sketch", percent / 100) for percent in (50, 95, 99)},
    }


def _create_database(settings: MigrationSettings) -> None:
    db = ClickHouse(settings, database="")
    try:
        db.command(f"CREATE DATABASE IF NOT EXISTS `{database_of(settings)}`")
    finally:
        db.close()


def _apply(db: ClickHouse, migration: Migration, values: Mapping[str, str]) -> bool:
    """Whether it was this process that applied it."""
    if _is_applied(db, migration):
        return False
    me = f"{socket.gethostname()}/{os.getpid()}/{time.monotonic_ns()}"
    _note(db, migration, "claimed", me)
    if not _my_turn(db, migration, me):
        return False
    for statement in split(migration.sql):
        db.command(fill(statement, values))
    _note(db, migration, "applied", me)
    log.info("migration applied", extra={"migration": migration.name})
    return True


def _is_applied(db: ClickHouse, migration: Migration) -> bool:
    found = db.rows(
        "SELECT checksum FROM migrations WHERE name = {name:String} AND event = 'applied'", {"name": migration.name}
    )
    if found and found[0][0] != migration.checksum:
        raise RefusedError(
            f"migration {migration.name} was changed after it was applied to database {db.database}: restore the file"
            " and write the change as a new migration"
        )
    return bool(found)


def _note(db: ClickHouse, migration: Migration, event: str, me: str) -> None:
    row = [migration.name, event, migration.checksum, me]
    settings = {"insert_deduplication_token": f"{migration.name}/{event}", "async_insert": 0}
    with translated("insert into migrations"):
        db.client.insert("migrations", [row], column_names=["name", "event", "checksum", "who"], settings=settings)


def _my_turn(db: ClickHouse, migration: Migration, me: str) -> bool:
    """Wait until the holder of the claim has applied it; true if that is this process, or if the holder died."""
    holder = db.rows(
        "SELECT who FROM migrations WHERE name = {name:String} AND event = 'claimed'", {"name": migration.name}
    )[0][0]
    deadline = time.monotonic() + CLAIM_S
    while holder != me:
        if _is_applied(db, migration):
            return False
        if time.monotonic() > deadline:
            log.warning("the claim was left behind", extra={"migration": migration.name, "holder": holder})
            return True
        time.sleep(0.1)
    return True


def _keep_retention(db: ClickHouse, settings: MigrationSettings) -> None:
    """Change the tables' TTLs where the settings have changed since."""
    wanted = dict.fromkeys(_DATA, settings.retention_days) | dict.fromkeys(_LONGER, settings.ledger_days)
    found = db.rows(
        "SELECT name, extract(engine_full, 'TTL toDateTime\\((\\w+)\\)'),"
        " toUInt32OrZero(extract(engine_full, 'toIntervalDay\\((\\d+)\\)'))"
        " FROM system.tables WHERE database = {database:String}",
        {"database": db.database},
    )
    for table, column, days in found:
        if table in wanted and days != wanted[table]:
            db.command(
                f"ALTER TABLE {table} MODIFY TTL toDateTime({column}) + toIntervalDay({wanted[table]})",
                materialize_ttl_after_modify=0,
            )
            log.info("retention changed", extra={"table": table, "days": wanted[table], "before": days})
