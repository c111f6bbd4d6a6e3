"""Migrations: numbered SQL files, each applied once, in order, by whichever process claims it first; in a cluster on
every node, one file after the other on all of them.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.errors import translated
from runtime.errors import RefusedError, RetryableError
from sinks.adapters.places import Place, find
from sinks.core import cluster
from sinks.core.statements import split
from sinks.settings import MigrationSettings

log = logging.getLogger(__name__)

_FOLDER: Final = Path(__file__).parent / "migrations"
CLAIM_S: Final = 30.0
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
    """Bring the database to the newest form, in a cluster on every node; returns the names of what was applied here.

    May run in several processes at once. Raises RetryableError while ClickHouse, or one of the nodes, is away, and
    RefusedError for a cluster that would lose or double rows.
    """
    places = find(settings)
    try:
        for place in places:
            place.views.command(_TABLE)
        for place in places:
            _join(place, places)
        applied = [m.name for m in migrations() if sum(_apply(place, m) for place in places)]
        for place in places:
            _merge_over_shards(place)
            _keep_retention(place.tables, settings)
        return applied
    finally:
        for place in places:
            place.close()


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
) ENGINE = MergeTree ORDER BY (name, event, at) SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'What was done to this database'"""


def _join(place: Place, places: list[Place]) -> None:
    """Give a node that is new in the cluster the tables as they are now: a replica may not begin with older ones."""
    if _applied(place.views):
        return
    peer = next((other for other in places if _applied(other.views)), None)
    if peer is None:
        return
    made = peer.tables.rows(
        "SELECT name, create_table_query FROM system.tables WHERE database = {database:String}"
        " AND engine LIKE '%MergeTree'",
        {"database": peer.tables.database},
    )
    for table, statement in made:
        place.tables.command(statement.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1))
        place.distribute(table)
    done = _applied(peer.views)
    for migration in migrations():
        if migration.name in done:
            for statement in split(migration.sql):
                if cluster.table_of(statement) is None:
                    place.run(statement)
            _note(place.views, migration, "applied", "copied from another node")
    log.info("node joined", extra={"host": place.views.client.url, "tables": len(made)})


def _merge_over_shards(place: Place) -> None:
    if place.cluster:
        for statement in split((_FOLDER / "over_shards.sql").read_text()):
            place.run(statement)


def _applied(db: ClickHouse) -> set[str]:
    return {name for (name,) in db.rows("SELECT name FROM migrations WHERE event = 'applied'")}


def _apply(place: Place, migration: Migration) -> bool:
    """Whether it was this process that applied it."""
    db = place.views
    if _is_applied(db, migration):
        return False
    me = f"{socket.gethostname()}/{os.getpid()}/{time.monotonic_ns()}"
    _note(db, migration, "claimed", me)
    if not _my_turn(db, migration, me):
        return False
    for statement in split(migration.sql):
        place.run(statement)
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
