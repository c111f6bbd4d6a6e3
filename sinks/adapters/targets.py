"""Where tables are created: the server of the URL, or every node of a cluster (sinks/core/cluster.py)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import endpoint
from runtime.errors import RefusedError
from sinks.core import cluster, statistics
from sinks.core.cluster import Node
from sinks.core.statements import fill
from sinks.settings import MigrationSettings

WINDOW: Final = 100_000
"""Deduplication tokens that each table remembers."""
_ALONE: Final = {"window": f"non_replicated_deduplication_window = {WINDOW}"}
_SHARED: Final = {
    "window": f"replicated_deduplication_window = {WINDOW}, replicated_deduplication_window_seconds = 604800"
}


@dataclass(frozen=True, slots=True)
class Target:
    """A ClickHouse server: its own tables, and the database that is asked, which is another one in a cluster only."""

    tables: ClickHouse
    views: ClickHouse
    values: Mapping[str, str]
    cluster: str = ""
    replicated: bool = False

    def run(self, statement: str) -> None:
        """Run a statement of a migration where it belongs."""
        statement = fill(statement, self.values)
        if not self.cluster:
            self.tables.command(statement)
        elif cluster.is_view(statement):
            self.views.command(cluster.view(statement))
        else:
            self.tables.command(cluster.replicated(statement) if self.replicated else statement, alter_sync=2)
            if table := cluster.table_of(statement):
                self.distribute(table)

    def distribute(self, table: str) -> None:
        """Create or replace the Distributed table: it holds no rows itself."""
        found = self.tables.rows(
            "SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String}",
            {"database": self.tables.database, "table": table},
        )
        columns = [name for (name,) in found]
        self.views.command(cluster.distributed(self.cluster, self.tables.database, table, columns))

    def close(self) -> None:
        self.tables.close()
        self.views.close()


def find(settings: MigrationSettings) -> list[Target]:
    """The server of the URL, or all nodes of the cluster; their databases are created."""
    name = endpoint(settings).database
    if not settings.clickhouse_cluster:
        db = _connect(settings, name)
        refuse_cluster(db, "MILLRACE_CLICKHOUSE_CLUSTER is not set")
        return [Target(db, db, _values(settings, name, _ALONE))]
    found: list[Target] = []
    try:
        for node in _nodes(settings):
            own, window = f"{name}_local", _SHARED if node.replicated else _ALONE
            tables = _connect(settings, own, node.host)
            views = _connect(settings, name, node.host)
            values = _values(settings, own, window)
            found.append(Target(tables, views, values, settings.clickhouse_cluster, node.replicated))
            _refuse_single(views, node.host)
    except BaseException:
        for target in found:
            target.close()
        raise
    return found


def refuse_cluster(db: ClickHouse, what: str) -> None:
    """Raise RefusedError if the database is that of a cluster."""
    if _count(db, "engine = 'Distributed'"):
        raise RefusedError(f"{what}, and database {db.database} is that of a cluster: see docs/scaling.md")


def _refuse_single(db: ClickHouse, host: str) -> None:
    """Distributed tables would take the place of tables that hold rows."""
    if _count(db, "engine LIKE '%MergeTree' AND name != 'migrations'"):
        raise RefusedError(
            f"database {db.database} on {host} holds the tables of a single server: give the cluster another database,"
            " and copy the rows as docs/scaling.md says"
        )


def _count(db: ClickHouse, which: str) -> int:
    found = db.rows(
        f"SELECT count() FROM system.tables WHERE database = {{database:String}} AND {which}", {"database": db.database}
    )
    return int(found[0][0])


def _nodes(settings: MigrationSettings) -> list[Node]:
    """The nodes of the cluster, as system.clusters and their own macros have them; a host that is named twice, once."""
    wanted, seed = settings.clickhouse_cluster, ClickHouse(settings, database="")
    try:
        found = seed.rows(
            "SELECT cluster, shard_num, host_name, internal_replication FROM system.clusters"
            " ORDER BY cluster, shard_num, replica_num"
        )
    finally:
        seed.close()
    hosts = {host: (shard, bool(forwards)) for cluster, shard, host, forwards in reversed(found) if cluster == wanted}
    if not hosts:
        known = ", ".join(sorted({row[0] for row in found})) or "none"
        raise RefusedError(
            f"MILLRACE_CLICKHOUSE_CLUSTER={wanted!r}: system.clusters has no such cluster, it has {known}: name one of"
            " them, or configure remote_servers on every node"
        )
    nodes = [_node(settings, host, *hosts[host]) for host in reversed(hosts)]
    if wrong := cluster.problems(nodes):
        raise RefusedError(f"MILLRACE_CLICKHOUSE_CLUSTER={wanted!r}: " + "; ".join(wrong))
    return nodes


def _node(settings: MigrationSettings, host: str, shard: int, forwards: bool) -> Node:
    db = ClickHouse(settings, database="", host=host)
    try:
        macros = dict(db.rows("SELECT macro, substitution FROM system.macros"))
    finally:
        db.close()
    return Node(shard, host, forwards, macros.get("shard", ""), macros.get("replica", ""))


def _connect(settings: MigrationSettings, database: str, host: str | None = None) -> ClickHouse:
    """Make the database if it is missing, and connect to it."""
    db = ClickHouse(settings, database="", host=host)
    try:
        db.command(f"CREATE DATABASE IF NOT EXISTS `{database}`")
    finally:
        db.close()
    return ClickHouse(settings, database, host)


def _values(settings: MigrationSettings, database: str, window: Mapping[str, str]) -> Mapping[str, str]:
    """What stands for the holes in migrations. `database`: of the tables that hold rows."""
    return {
        "engine": "MergeTree",
        "replacing": "ReplacingMergeTree",
        **window,
        "retention_days": str(settings.retention_days),
        "ledger_days": str(settings.ledger_days),
        "database": database,
        **{f"p{percent}": statistics.quantile("sketch", percent / 100) for percent in (50, 95, 99)},
        "mean": statistics.MEAN,
        "m2": statistics.M2,
        "m2_of_sums": statistics.M2_OF_SUMS,
    }
