"""A ClickHouse cluster: tables on every node, Distributed ones in front, and what is asked over shards is right.

The engine of the tests takes part in a cluster of one node, named once or twice; that nodes speak to each other needs
ClickHouse's server. So the answers over shards are asked of Merge tables over two databases: FINAL and aggregation are
done in each and then together, as Distributed tables do it.
"""

import os
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.backup import backup
from local import programs
from local.engines.clickhouse import ClickHouse as Engine
from local.ports import free
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import endpoint
from runtime.errors import FatalError, RefusedError, RetryableError
from sinks import migrate as migrations
from sinks.adapters import targets
from sinks.core import cluster
from sinks.core.cluster import Node
from sinks.core.statements import fill, split
from sinks.ledger import ledger_totals
from sinks.migrate import check_migrated, migrate
from sinks.settings import MigrationSettings
from sinks.verify import verify
from tests.servers import ClickHouseServer, KafkaServer, Server
from tests.sinks.conftest import Stand
from tests.sinks.kills import kills_and_flow
from tests.sinks.refreshing import refresh

NATIVE = 19_000
"""Where the nodes would speak to each other. By its own port a server knows itself in system.clusters."""
HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


# ---- conditions on the nodes, and rewritten statements


def test_nodes_that_would_lose_or_double_rows_are_all_told() -> None:
    assert cluster.problems([Node(1, "a", False), Node(2, "b", False)]) == []
    assert cluster.problems([Node(1, "a", True, "1", "a"), Node(1, "b", True, "1", "b")]) == []
    wrong = [
        Node(1, "a", True, "1", "x"),
        Node(1, "b", False, "9", "y"),
        Node(2, "c", True, "1", "x"),
        Node(3, "d", True),
    ]
    told = cluster.problems(wrong)
    assert len(told) == 5
    for text in (
        "d: macros `shard` and `replica` are missing",
        "shard 1: internal_replication must be true, or each row is written 2 times",
        "shard 1: its replicas must have one macro `shard`, they have a '1', b '9'",
        "2 nodes have the macros shard '1' and replica 'x'",
        "shards 1, 2 have one macro `shard`: '1'",
    ):
        assert any(text in line for line in told), text
    assert "have no macros" in cluster.problems([Node(1, "a", True), Node(1, "b", True)])[0]


def test_every_table_of_the_migrations_can_be_replicated_and_distributed() -> None:
    statements = [s for m in migrations.migrations() for s in split(m.sql)]
    values = dict.fromkeys(
        ("window", "retention_days", "ledger_days", "database", "p50", "p95", "p99", "mean", "m2"), "1"
    )
    values["m2_of_sums"] = "1"
    values |= {"engine": "MergeTree", "replacing": "ReplacingMergeTree"}
    made = [fill(s, values) for s in statements if s.startswith("CREATE TABLE")]
    assert len(made) > 15
    for statement in map(cluster.replicated, made):
        assert statement.count("MergeTree('/clickhouse/tables/{database}/{table}/{shard}', '{replica}'") == 1
    assert cluster.replicated("ENGINE = ReplacingMergeTree(version) ORDER BY a") == (
        "ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{database}/{table}/{shard}', '{replica}', version)"
        " ORDER BY a"
    )
    views = [s for s in statements if cluster.is_view(s)]
    of_node = [s for s in statements if not cluster.is_view(s) and not cluster.table_of(s)]
    assert not [s for s in of_node if "MATERIALIZED" not in s and not s.startswith("DROP VIEW IF EXISTS rollup_")]
    assert sum(cluster.view(s).count("GLOBAL") for s in views) >= 6


# ---- one node, and what would be over several


class Clustered(ClickHouseServer):
    """Knows the clusters `one` and `two`, whose shards are itself."""

    def start(self) -> None:
        self.engine.folder.mkdir(parents=True, exist_ok=True)
        configure(self.engine.folder, {"one": HOSTS[:1], "two": HOSTS[:1] * 2})
        super().start()


def configure(folder: Path, clusters: dict[str, tuple[str, ...]]) -> None:
    """Write remote_servers where the engine reads its configuration: a shard for each host."""
    shard = "<shard><replica><host>{}</host><port>{}</port></replica></shard>"
    told = "".join(
        f"<{name}>{''.join(shard.format(host, NATIVE) for host in hosts)}</{name}>" for name, hosts in clusters.items()
    )
    (folder / "etc" / "config.d").mkdir(parents=True, exist_ok=True)
    (folder / "etc" / "config.d" / "cluster.xml").write_text(
        f"<clickhouse><tcp_port>{NATIVE}</tcp_port><remote_servers>{told}</remote_servers></clickhouse>"
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    found = Clustered(tmp_path_factory.mktemp("cluster"))
    found.start()
    yield found
    found.kill()


@pytest.fixture
def stand(
    kafka_fresh: Callable[[], KafkaServer], server: ClickHouseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stand]:
    monkeypatch.setenv("MILLRACE_CLICKHOUSE_CLUSTER", "one")
    found = Stand(kafka_fresh(), server, f"c{os.getpid()}", tmp_path, 3)
    found.settings = replace(found.settings, clickhouse_cluster="one")
    yield found
    found.close()


@pytest.mark.long
def test_the_sink_stores_once_through_distributed_tables_and_views_over_shards_say_the_same(stand: Stand) -> None:
    kills_and_flow(stand, kills=3, records=12, seed=5)
    db = stand.db()
    engines = dict(db.rows("SELECT name, engine FROM system.tables WHERE database = currentDatabase()"))
    assert engines["readings"] == engines["presence_newest"] == "Distributed"
    assert list(verify(db, stand.kafka_settings)) == []
    one = over_shards(db, stand.settings)
    refresh(local(stand.settings))
    views = sorted(name for name, engine in engines.items() if engine == "View")
    assert len(views) > 20
    empty = {name for name in views if not same(db, one, name)}
    assert not empty & {"ledger", "ledger_partitions", "windows", "windows_1h", "windows_1d", "presence_current"}
    assert ledger_totals(one.client) == ledger_totals(db.client)
    for found in (db, one):
        assert found.rows("SELECT count FROM windows_1h WHERE device = 'mover'") == [(3,)]
        assert found.rows("SELECT state FROM presence_current WHERE device = 'mover'") == [("offline",)]
        found.close()


def local(settings: MigrationSettings) -> ClickHouse:
    return ClickHouse(settings, database=endpoint(settings).database + "_local")


def over_shards(db: ClickHouse, settings: MigrationSettings) -> ClickHouse:
    """The rows of the cluster cut into two databases by raw_partition, and a third with the views over both. A device
    that moved from one partition to another is in both."""
    own, name = local(settings), db.database
    hour = f"toDateTime64({time.time() // 3600 * 3600:.0f}, 3)"
    for partition, state in enumerate(("online", "offline")):
        own.command(
            "INSERT INTO presence_newest (device, state, raw_partition, raw_offset, time)"
            f" SELECT 'mover', '{state}', {partition}, {partition}, now64(3) + {partition}"
        )
        own.command(
            "INSERT INTO aggregates_1m"
            " (device, metric, window_start, append_time, raw_partition, raw_offset, count, sum)"
            f" SELECT 'mover', 'm', {hour}, now64(3), {partition}, 9000000, {partition + 1}, 1"
        )
    shards = [f"{name}_s{i}" for i in range(2)]
    for i, shard in enumerate(shards):
        url = settings.clickhouse_url.replace(name, shard)
        migrate(replace(settings, clickhouse_url=url, clickhouse_cluster=""))
        for (table,) in own.rows(
            "SELECT DISTINCT table FROM system.columns WHERE database = currentDatabase() AND name = 'raw_partition'"
        ):
            own.command(f"INSERT INTO {shard}.{table} SELECT * FROM {table} WHERE raw_partition % 2 = {i}")
        of = ClickHouse(settings, database=shard)
        refresh(of)
        of.close()
    made = own.rows(f"SELECT name FROM system.tables WHERE database = '{shards[0]}' AND engine LIKE '%MergeTree'")
    own.command(f"CREATE DATABASE {name}_over")
    merged = ClickHouse(settings, database=f"{name}_over")
    for (table,) in made:
        merged.command(
            f"CREATE TABLE {table} AS {shards[0]}.{table} ENGINE = Merge(REGEXP('^{name}_s[01]$'), '^{table}$')"
        )
    files = [m.sql for m in migrations.migrations()] + [(migrations.FOLDER / "over_shards.sql").read_text()]
    values = targets._values(settings, shards[0], {})
    for statement in (s for sql in files for s in split(sql) if cluster.is_view(s)):
        merged.command(cluster.view(fill(statement, values)))
    own.close()
    return merged


def same(db: ClickHouse, one: ClickHouse, view: str) -> bool:
    """Whether the view has rows; that they are the same in both is asserted."""
    left, right = rows(db, view), rows(one, view)
    assert left == right, view
    return bool(left)


def rows(db: ClickHouse, view: str) -> list[tuple[str, ...]]:
    """Without what has no order: rows, elements, keys, and the last digits of sums."""
    return sorted(tuple(map(told, row)) for row in db.rows(f"SELECT * FROM {view}"))


def told(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, dict):
        return str(sorted(value.items()))
    return str(sorted(map(told, value))) if isinstance(value, list) else str(value)


def test_views_ask_all_shards(server: ClickHouseServer) -> None:
    """Two shards that are one server: each row counts twice. ClickHouse refuses subqueries that it would ask of each
    shard alone."""
    settings = settings_of(server, "twice", "two")
    migrate(settings)
    db = ClickHouse(settings)
    for table, columns in (
        ("ledger_received", "append_time, raw_offset, received) SELECT now64(3), number, 2"),
        (
            "ledger_facts",
            "append_time, received_from, raw_offset, accepted, readings) SELECT now64(3), now64(3), number, 2, 2",
        ),
        ("readings", "time, received_at, device, raw_offset) SELECT now64(3), now64(3), 'a', intDiv(number, 2)"),
    ):
        count = 6000 if table == "readings" else 3000
        db.command(f"INSERT INTO twice_local.{table} ({columns} FROM numbers({count})")
    assert db.rows("SELECT count() FROM readings") == [(12_000,)]
    with pytest.raises(FatalError, match="Double-distributed"):
        db.rows("SELECT count() FROM readings WHERE device IN (SELECT device FROM readings)")
    found = db.rows("SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'")
    for (view,) in found:
        db.rows(f"SELECT * FROM {view}")
    assert db.rows("SELECT sum(rows) FROM ledger_stored") == [(12_000,)]
    db.close()


def test_one_server_and_a_cluster_are_not_taken_for_each_other(
    server: ClickHouseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, many = settings_of(server, "alone", ""), settings_of(server, "many", "one")
    migrate(alone)
    migrate(many)
    assert migrate(many) == []
    check_migrated(many)
    with pytest.raises(RefusedError, match=r"database alone on .* holds the tables of a single server"):
        migrate(replace(alone, clickhouse_cluster="one"))
    with pytest.raises(RefusedError, match="MILLRACE_CLICKHOUSE_CLUSTER is not set, and database many is"):
        migrate(replace(many, clickhouse_cluster=""))
    with pytest.raises(RefusedError, match=r"has no such cluster, it has .*one, two: name one of them"):
        migrate(replace(many, clickhouse_cluster="three"))
    monkeypatch.setenv("MILLRACE_CLICKHOUSE_URL", many.clickhouse_url)
    monkeypatch.setenv("MILLRACE_CLICKHOUSE_PASSWORD_FILE", str(many.clickhouse_password_file))
    with socket.create_server(("127.0.0.1", 0)) as kafka:  # reachable; the refusal comes before anything is asked of it
        monkeypatch.setenv("MILLRACE_KAFKA_BOOTSTRAP", f"127.0.0.1:{kafka.getsockname()[1]}")
        result = CliRunner().invoke(backup, [str(tmp_path / "b")])
    assert "copies one server" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def settings_of(server: ClickHouseServer, name: str, cluster_name: str) -> MigrationSettings:
    url = server.url.rsplit("/", 1)[0] + f"/{name}"
    return MigrationSettings(url, server.password_file, clickhouse_cluster=cluster_name)


# ---- several nodes


@dataclass(frozen=True, slots=True)
class OfNode(Engine):
    """An engine that listens where its name in the cluster says."""

    host: str = HOSTS[0]

    def program(self) -> programs.Program:
        made = Engine.program(self)
        return replace(
            made, environment={**made.environment, "MILLRACE_LISTEN": f"{self.host}:{self.port}"}, ready=self._up
        )

    def _up(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.port}/ping", timeout=0.5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Server[OfNode]]]:
    """Engines on addresses of their own and one port, with one password; the third is not in the cluster yet."""
    port, made = free()[0], []
    for host in HOSTS:
        engine = OfNode(tmp_path / host, port, host)
        engine.folder.mkdir()
        configure(engine.folder, {"fleet": HOSTS[:2], "grown": HOSTS})
        (engine.folder / "millrace.password").write_text("secret of the test")
        made.append(Server(engine))
        made[-1].start()
    yield made
    for server in made:
        server.kill()


@pytest.mark.long
def test_every_node_gets_the_tables_and_a_new_one_those_of_its_peers(nodes: list[Server[OfNode]]) -> None:
    first = nodes[0].engine
    settings = MigrationSettings(first.url, first.password_file, clickhouse_cluster="fleet", clickhouse_timeout_s=5)
    assert migrate(settings) == [m.name for m in migrations.migrations()]
    shapes = [shape(settings, host) for host in HOSTS[:2]]
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) > 50
    grown = replace(settings, clickhouse_cluster="grown")
    nodes[2].kill()
    with pytest.raises(RetryableError, match=HOSTS[2]):
        migrate(grown)
    nodes[2].start()
    assert migrate(grown) == []
    told = {tuple(text.replace("'grown'", "'fleet'") for text in row) for row in shape(settings, HOSTS[2])}
    assert told == shapes[0]
    assert migrate(grown) == []


def shape(settings: MigrationSettings, host: str) -> set[tuple[Any, ...]]:
    """Tables and views of a node, each as the statement that makes it."""
    db = ClickHouse(settings, host=host)
    found = db.rows(
        "SELECT database, name, create_table_query FROM system.tables WHERE database IN ('millrace', 'millrace_local')"
    )
    applied = db.rows("SELECT 'applied', name, checksum FROM migrations WHERE event = 'applied'")
    db.close()
    return {*found, *applied}
