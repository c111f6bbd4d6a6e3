"""Migrations: numbered SQL files, each applied once, in order, by whichever process claims it first; in a cluster on
every node, one file after the other on all of them.

ClickHouse has no transactions over DDL, so a file may be cut off in its middle: every statement must be harmless when
it runs again (IF NOT EXISTS, CREATE OR REPLACE VIEW). A claim is a row whose deduplication token lets only the first
insert through; a claim whose holder died expires after CLAIM_S.
"""

import logging
import os
import socket
import time
from typing import Final

from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.errors import translated
from runtime.clickhouse.settings import endpoint
from runtime.errors import RefusedError, RetryableError
from sinks import schema
from sinks.adapters.targets import Target, find
from sinks.core import cluster
from sinks.core.schema import Missing, Schema
from sinks.core.statements import split
from sinks.files import FOLDER, Migration, migrations
from sinks.settings import MigrationSettings

log = logging.getLogger(__name__)

CLAIM_S: Final = 30.0
_DATA: Final = (
    *("readings", "readings_superseded", "denied", "dead_letters", "events"),
    *("aggregates_1m", "group_aggregates_1m", "anomalies", "incidents", "presence"),
)
_LONGER: Final = ("aggregates_1h", "ledger_received", "ledger_facts", "ledger_derived")


def migrate(settings: MigrationSettings, restore: bool = False) -> list[str]:
    """Bring the database to the newest form, in a cluster on every node; returns the names of what was applied here.

    Views, columns, indexes and projections that somebody dropped are created again. A table that was dropped took its
    rows with it, so that is done with `restore` only: `millrace init` and `millrace rebuild` do, the sink does not.

    May run in several processes at once. Raises RetryableError while ClickHouse, or one of the nodes, is away, and
    RefusedError for a cluster that would lose or double rows, for tables of a newer release, and for missing tables.
    """
    targets = find(settings)
    try:
        for target in targets:
            target.views.command(_TABLE)
        for target in targets:
            _join(target, targets)
            _restore_tables(target, restore)
        applied = [m.name for m in migrations() if sum(_apply(target, m) for target in targets)]
        for target in targets:
            _restore_parts(target)
            _merge_over_shards(target)
            _keep_retention(target.tables, settings)
        return applied
    finally:
        for target in targets:
            target.close()


def check_migrated(settings: MigrationSettings) -> None:
    """For a sink that may not change tables. Raises RetryableError until all migrations are applied, and RefusedError
    for tables of a newer release and for missing tables."""
    name = endpoint(settings).database
    with ClickHouse(settings, database="") as server:
        asked = "SELECT count() FROM system.tables WHERE database = {database:String} AND name = 'migrations'"
        if server.rows(asked, {"database": name}) == [(0,)]:
            raise RetryableError(f"database {name} has no tables yet: `millrace init` creates them")
    with ClickHouse(settings) as db:
        unapplied = [m.name for m in migrations() if not _is_applied(db, m)]
        if unapplied:
            raise RetryableError(f"the tables lack {', '.join(unapplied)}: `millrace init` applies them")
        _refuse_missing(db, [m for m in schema.missing(db, _applied(db)) if m.kind == "table"])


def _restore_tables(target: Target, restore: bool) -> None:
    """Create again the tables that applied migrations created and that are missing."""
    done = _applied(target.views)
    missing = [m for m in schema.missing(target.tables, done) if m.kind == "table"]
    if not restore:
        _refuse_missing(target.tables, missing)
    _run_again(target, schema.applied(done), missing)


def _restore_parts(target: Target) -> None:
    """Create again everything else that is missing, once all migrations are applied."""
    done = _applied(target.views)
    missing = schema.missing(target.tables, done, views=target.tables is target.views)
    _run_again(target, schema.applied(done), missing)
    if target.cluster:
        for table in sorted(schema.applied(done).tables.keys() - schema.found(target.views).tables):
            target.distribute(table)
        views = [m for m in schema.missing(target.views, done) if m.kind == "view" and not schema.is_local(m, done)]
        _run_again(target, schema.applied(done), views)


def _run_again(target: Target, wanted: Schema, missing: list[Missing]) -> None:
    for one in missing:
        for statement in wanted.restore(one):
            target.run(statement)
        log.warning("%s was missing and was re-created", one, extra={"database": target.tables.database})


def _refuse_missing(db: ClickHouse, missing: list[Missing]) -> None:
    if missing:
        names = ", ".join(m.table for m in missing)
        raise RefusedError(
            f"database {db.database} lacks {names}: dropped after the migrations created it, and its rows with it."
            " `millrace rebuild TABLE` creates a table again and fills it with what Kafka still holds; `millrace init`"
            " creates it empty; `millrace restore` brings back a backup"
        )


_TABLE: Final = """CREATE TABLE IF NOT EXISTS migrations
(
    name String COMMENT 'file of sinks/migrations',
    event LowCardinality(String) COMMENT 'claimed or applied',
    checksum String COMMENT 'of the file',
    who String COMMENT 'host and process',
    at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when'
) ENGINE = MergeTree ORDER BY (name, event, at) SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'What was done to this database'"""


def _join(target: Target, targets: list[Target]) -> None:
    """Give a node that is new in the cluster the tables as they are now: a replica may not begin with older ones."""
    if _applied(target.views):
        return
    peer = next((other for other in targets if _applied(other.views)), None)
    if peer is None:
        return
    made = peer.tables.rows(
        "SELECT name, create_table_query FROM system.tables WHERE database = {database:String}"
        " AND engine LIKE '%MergeTree'",
        {"database": peer.tables.database},
    )
    for table, statement in made:
        target.tables.command(statement.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1))
        target.distribute(table)
    done = _applied(peer.views)
    for migration in migrations():
        if migration.name in done:
            for statement in split(migration.sql):
                if cluster.table_of(statement) is None:
                    target.run(statement)
            _note(target.views, migration, "applied", "copied from another node")
    log.info("node joined", extra={"host": target.views.client.url, "tables": len(made)})


def _merge_over_shards(target: Target) -> None:
    if target.cluster:
        for statement in split((FOLDER / "over_shards.sql").read_text()):
            target.run(statement)


def _applied(db: ClickHouse) -> set[str]:
    """Names of applied migrations. Raises RefusedError if a newer release applied one that this one does not know."""
    found = {str(name) for (name,) in db.rows("SELECT name FROM migrations WHERE event = 'applied'")}
    if newer := found - {m.name for m in migrations()}:
        raise RefusedError(
            f"database {db.database} is that of a newer release: it has {', '.join(sorted(newer))}. Start that release,"
            " or restore a backup that this one made (docs/operations/upgrade.md)"
        )
    return found


def _apply(target: Target, migration: Migration) -> bool:
    """Whether it was this process that applied it."""
    db = target.views
    if _is_applied(db, migration):
        return False
    me = f"{socket.gethostname()}/{os.getpid()}/{time.monotonic_ns()}"
    _note(db, migration, "claimed", me)
    if not _my_turn(db, migration, me):
        return False
    for statement in split(migration.sql):
        target.run(statement)
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
            log.warning(
                "a migration was claimed by a process that has ended; it is applied here",
                extra={"migration": migration.name, "holder": holder},
            )
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
