"""Attacks on the local ClickHouse front, with the real engine: hundreds of statements and requests, each of which must
bring out no canary and leave no file behind; and what one request may cost."""

import contextlib
import functools
import gzip
import http.client
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lz4.frame
import pytest
import zstandard

from local.clickhouse import landlock
from local.ports import LOOPBACK
from tests.servers import ClickHouseServer

CANARY = "canary-7f3a91"
pytestmark = pytest.mark.skipif(landlock.abi() < landlock.NETWORK_ABI, reason="the kernel has no Landlock with TCP")


@dataclass
class Ground:
    """A platform's folder with things to steal, and a service on the loopback that must not hear anything."""

    server: ClickHouseServer
    data: Path
    listener: socket.socket
    before: set[Path]

    @property
    def secrets(self) -> tuple[str, ...]:
        return CANARY, self.server.password, self.server.analyst_password

    def ask(
        self, sql: str | bytes, user: str = "analyst", headers: dict[str, str] | None = None, **query: str
    ) -> tuple[int, bytes]:
        """(status, body); status 0 when the connection was cut, with what had come."""
        password = self.server.password if user == "millrace" else self.server.analyst_password
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=60)
        try:
            body = sql.encode("utf-8", "surrogateescape") if isinstance(sql, str) else sql
            own = {"X-ClickHouse-User": user, "X-ClickHouse-Key": password, **(headers or {})}
            connection.request("POST", "/?" + urllib.parse.urlencode(query), body, own)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (http.client.HTTPException, OSError) as error:
            return 0, getattr(error, "partial", b"")
        finally:
            connection.close()

    def check(self, what: object, body: bytes) -> None:
        text = body.decode("utf-8", "replace")
        for secret in self.secrets:
            assert secret not in text, what
        assert self.files() <= self.before, what

    def files(self) -> set[Path]:
        """All files but the engine's own."""
        own = self.server.engine.folder
        return {p for p in self.data.rglob("*") if own / "db" not in p.parents and own / "tmp" not in p.parents}

    def strays(self) -> list[Path]:
        """Files in the engine's own folder that only a statement can have put there."""
        return list(self.server.engine.folder.rglob("*stray*"))


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    data = tmp_path_factory.mktemp("attacked")
    (data / "identity").mkdir()
    for name in ("identity/ca.key", "canary.csv", "format.txt", "canary.proto"):
        (data / name).write_text(CANARY + "\n")
    os.environ["CANARY"] = CANARY
    server = ClickHouseServer(data)
    listener = socket.create_server((LOOPBACK, 0))
    listener.setblocking(False)
    try:
        server.start()
    finally:
        del os.environ["CANARY"]
    (server.engine.folder / "db" / "user_files").mkdir(exist_ok=True)
    (server.engine.folder / "db" / "user_files" / "link.csv").symlink_to(data / "canary.csv")
    ground = Ground(server, data, listener, set())
    for sql in (
        "CREATE DATABASE other",
        f"CREATE TABLE other.secret ENGINE = MergeTree ORDER BY tuple() AS SELECT '{CANARY}' AS s",
        "CREATE TABLE millrace.shown ENGINE = MergeTree ORDER BY n AS SELECT number AS n FROM numbers(1000)",
    ):
        assert ground.ask(sql, "millrace")[0] == 200
    ground.before = ground.files()
    yield ground
    assert not ground.strays()
    with contextlib.suppress(BlockingIOError):
        listener.accept()
        raise AssertionError("the engine connected to a service on the loopback")
    listener.close()
    server.stop()


def targets(ground: Ground) -> dict[str, str]:
    folder = ground.server.engine.folder
    return {
        "key": f"{ground.data}/identity/ca.key",
        "password": str(ground.server.password_file),
        "csv": f"{ground.data}/canary.csv",
        "environment": "/proc/self/environ",
        "link": f"{folder}/db/user_files/link.csv",
        "dots": f"{folder}/db/../../canary.csv",
    }


READS = (
    "SELECT file('{0}')",
    "SELECT * FROM file('{0}', 'LineAsString')",
    "SELECT * FROM file('{0}', 'RawBLOB', 's String')",
    "SELECT * FROM `file`('{0}', LineAsString)",
    "SELECT * FROM \"file\"('{0}', LineAsString)",
    "SELECT * FROM /* */ file /* */ ('{0}', 'LineAsString', 'l String')",
    "SELECT 1 AS x$$, y.* FROM file('{0}', 'LineAsString') AS y",
    "SELECT * FROM (SELECT 1 AS x$$, * FROM file('{0}','LineAsString') AS y$$)",
    "SELECT ‘/*’, line FROM file('{0}','LineAsString') --*/",
    "SELECT 1 AS “/*”, line FROM file('{0}','LineAsString') --“*/”",
    "SELECT ‘'’, line FROM file('{0}','LineAsString') --'",
    "WITH file('{0}') AS x SELECT x",
    "SELECT (SELECT file('{0}'))",
    "SELECT arrayMap(x -> file(x), ['{0}'])",
    "SELECT * APPLY(file) FROM (SELECT '{0}')",
    "SELECT * APPLY file FROM (SELECT '{0}' AS p)",
    "SELECT throwIf(1, file('{0}'))",
    "SELECT throwIf(length(file('{0}')) > 0, 'x')",
    "SELECT CAST(file('{0}') AS Int8)",
    "DESCRIBE file('{0}')",
    "DESCRIBE TABLE file('{0}', 'CSV')",
    "EXPLAIN SYNTAX SELECT file('{0}')",
    "EXPLAIN QUERY TREE SELECT file('{0}')",
    "EXPLAIN PIPELINE SELECT * FROM file('{0}', 'LineAsString')",
    "SELECT * FROM fileCluster('default', '{0}', 'LineAsString')",
    "SELECT * FROM filesystem('{0}')",
    "SELECT content FROM filesystem('{0}')",
    "SELECT * FROM url('file://{0}', 'LineAsString')",
    "SELECT * FROM url('file:///{0}', 'LineAsString', 'line String')",
    "SELECT * FROM icebergLocal('{0}')",
    "SELECT * FROM deltaLakeLocal('{0}')",
    "SELECT * FROM paimonLocal('{0}')",
    "SELECT * FROM sqlite('{0}', 'x')",
    "SELECT * FROM executable('cat {0}', 'LineAsString', 'l String')",
    "SELECT * FROM executable('/bin/cat', 'LineAsString', 'l String', (SELECT 1))",
    "SELECT * FROM python('{0}')",
    "SELECT * FROM python(users)",
    "SELECT * FROM Python(os)",
    "SELECT * FROM view(SELECT * FROM file('{0}', 'LineAsString'))",
    "SELECT * FROM viewIfPermitted(SELECT * FROM file('{0}', 'LineAsString') ELSE null('line String'))",
    "SELECT * FROM viewExplain('EXPLAIN', '', (SELECT file('{0}')))",
    "SELECT * FROM eval('SELECT file(''{0}'')')",
    "SELECT * FROM merge('', '{0}')",
    "SELECT * FROM loop(file('{0}', 'LineAsString')) LIMIT 5",
    "SELECT * FROM cluster('default', file('{0}', 'LineAsString'))",
    "SELECT * FROM remote('127.0.0.1', file('{0}', 'LineAsString'))",
    "SELECT dictGet('{0}', 'x', 1)",
    "SELECT joinGet('{0}', 'x', 1)",
    "SELECT catboostEvaluate('{0}', 1)",
    "SELECT naiveBayesClassifier('{0}', 'x')",
    "SELECT lemmatize('{0}', 'x')",
    "SELECT synonyms('{0}', 'x')",
    "SELECT getServerSetting('{0}')",
    "SELECT * FROM system.zookeeper WHERE path = '{0}'",
    "INSERT INTO millrace.shown FROM INFILE '{0}' FORMAT CSV",
    "INSERT INTO millrace.shown SELECT length(file('{0}'))",
    "CREATE TABLE millrace.f ENGINE = File(LineAsString, '{0}')",
    "CREATE TABLE millrace.f (l String) ENGINE = File(LineAsString, '{0}')",
    "ATTACH TABLE millrace.f FROM '{0}' (l String) ENGINE = File(LineAsString)",
    "CREATE TEMPORARY TABLE f (l String) ENGINE = File(LineAsString, '{0}')",
    "CREATE VIEW millrace.f AS SELECT * FROM file('{0}', 'LineAsString')",
    "CREATE FUNCTION f AS x -> file('{0}')",
    "CREATE DICTIONARY millrace.f (l String) PRIMARY KEY l SOURCE(FILE(path '{0}' format 'TSV'))"
    " LAYOUT(COMPLEX_KEY_HASHED())",
    "CREATE NAMED COLLECTION f AS path = '{0}'",
    "CREATE DATABASE f ENGINE = SQLite('{0}')",
    "CREATE DATABASE f ENGINE = Filesystem('{0}')",
    "RESTORE TABLE millrace.f FROM File('{0}')",
    "BACKUP TABLE millrace.shown TO File('{0}')",
    "BACKUP TABLE millrace.shown TO Disk('default', '{0}')",
    "SELECT 1; SELECT file('{0}')",
    "SELECT 1;; SET ROLE admin; SELECT file('{0}')",
    "SELECT 1 FORMAT Template SETTINGS format_template_resultset = '{0}'",
    "SELECT 1 FORMAT CustomSeparated SETTINGS format_custom_field_delimiter = '{0}', format_schema = '{0}'",
    "SET format_template_resultset = '{0}'",
    "SYSTEM RELOAD CONFIG",
    "EXECUTE AS default SELECT file('{0}')",
    "PARALLEL WITH SELECT file('{0}')",
)


@pytest.mark.parametrize("user", ["analyst", "millrace"])
@pytest.mark.parametrize("read", READS)
def test_no_statement_of_any_user_brings_out_a_file(ground: Ground, read: str, user: str) -> None:
    for name, path in targets(ground).items():
        sql = read.format(path)
        for form in ({}, {"default_format": "JSON"}) if name == "key" else ({},):
            status, body = ground.ask(sql, user, **form)
            assert path in sql or "{0}" not in read
            ground.check((user, sql, status), body)
    for made in ("VIEW millrace.f", "TABLE millrace.f", "FUNCTION f", "DICTIONARY millrace.f", "NAMED COLLECTION f"):
        ground.ask(f"DROP {made}", "millrace")
    ground.ask("DROP DATABASE IF EXISTS f", "millrace")
    assert ground.ask("SELECT sum(n) >= 499500 FROM millrace.shown")[1] == b"1\n" or user == "millrace"


FILE_SETTINGS = (
    *("format_schema", "format_schema_source", "format_schema_message_name", "output_format_schema"),
    *("format_template_resultset", "format_template_row", "format_template_resultset_format"),
    *("format_template_row_format", "format_template_rows_between_delimiter"),
    *("format_protobuf_use_autogenerated_schema"),
    *("format_capn_proto_use_autogenerated_schema", "format_avro_schema_registry_url", "dialect", "readonly2"),
    *("input_format_record_errors_file_path", "errors_output_format", "default_table_engine", "promql_database"),
    *("allow_experimental_eval_table_function", "max_server_memory_usage", "implicit_select", "profile", "param"),
    *("allow_ddl", "allow_introspection_functions", "additional_table_filters", "additional_result_filter"),
    *("s3_disable_checksum", "engine_file_allow_create_multiple_files", "rename_files_after_processing"),
    *("workload", "send_logs_level", "log_queries", "use_query_cache", "query_cache_share_between_users"),
    *("max_threads_for_indexes", "priority", "max_memory_usage_for_user", "memory_overcommit_ratio_denominator"),
    *("timeout_overflow_mode", "max_execution_speed", "max_estimated_execution_time", "async_insert"),
    *("filesystem_cache_name", "max_query_size"),
)  # fmt: skip
FORMATS = ("Template", "CustomSeparated", "Protobuf", "ProtobufSingle", "ProtobufList", "CapnProto", "Avro", "CSV")


@pytest.mark.parametrize("setting", FILE_SETTINGS)
def test_a_reader_gives_no_setting_that_is_not_on_the_list(ground: Ground, setting: str) -> None:
    path = targets(ground)["csv"]
    for form in FORMATS:
        status, body = ground.ask(f"SELECT 1 AS c FORMAT {form}", **{setting: path})
        assert status in (403, 404), (setting, form, body)
        ground.check((setting, form), body)
    status, body = ground.ask(f"SELECT 1 AS c SETTINGS {setting} = '{path}'")
    assert status != 200
    ground.check(setting, body)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("setting", [s for s in FILE_SETTINGS if "schema" in s or "template" in s])
def test_a_setting_of_the_owner_reads_and_writes_no_file_outside_of_the_data(
    ground: Ground, setting: str, form: str
) -> None:
    for path in (targets(ground)["csv"], f"{ground.data}/stray.proto"):
        more = {"format_protobuf_use_autogenerated_schema": "1"} if setting == "output_format_schema" else {}
        _, body = ground.ask(f"SELECT 1 AS c FORMAT {form}", "millrace", **{setting: path, **more})
        ground.check((setting, form), body)


WRITES = (
    "SELECT 'x' INTO OUTFILE '{0}'",
    "SELECT 'x' INTO/**/OUTFILE '{0}' FORMAT TSV",
    "SELECT 'x' into outfile '{0}' truncate",
    "SELECT 'x' INTO OUTFILE '{0}' APPEND AND STDOUT",
    "SELECT 'x' AS x$$ INTO OUTFILE '{0}' FORMAT TSV",
    "SELECT ‘/*’ , 'a line' INTO OUTFILE '{0}' FORMAT TSV --*/",
    "(SELECT 'x') UNION ALL (SELECT 'y') INTO OUTFILE '{0}'",
    "SELECT 'x' UNION ALL SELECT 'y' INTO OUTFILE '{0}' COMPRESSION 'gzip' LEVEL 1",
    "WITH 1 AS a SELECT a INTO OUTFILE '{0}' SETTINGS output_format_write_statistics = 0",
    "SELECT 'x' INTO OUTFILE $${0}$$",
    "SELECT 'x' INTO OUTFILE ‘{0}’",
    "SHOW TABLES INTO OUTFILE '{0}'",
    "SHOW DATABASES INTO OUTFILE '{0}' FORMAT CSV",
    "DESCRIBE millrace.shown INTO OUTFILE '{0}'",
    "EXPLAIN SELECT 1 INTO OUTFILE '{0}'",
    "EXISTS TABLE millrace.shown INTO OUTFILE '{0}'",
    "SHOW CREATE TABLE millrace.shown INTO OUTFILE '{0}'",
    "INSERT INTO FUNCTION file('{0}', 'CSV', 'x Int8') VALUES (1)",
    "INSERT INTO FUNCTION file('{0}', 'CSV', 'x Int8') SELECT 1",
    "INSERT INTO FUNCTION sqlite('{0}', 'x') SELECT 1",
    "CREATE TABLE millrace.f (x Int8) ENGINE = File(CSV, '{0}')",
    "CREATE DATABASE f ENGINE = SQLite('{0}')",
    "BACKUP TABLE millrace.shown TO File('{0}')",
    "SELECT 1 FORMAT Protobuf SETTINGS output_format_schema = '{0}'",
    "SELECT 1; SELECT 1 INTO OUTFILE '{0}'",
    "SELECT 1\n;\nSELECT 1 INTO OUTFILE '{0}'",
)


@pytest.mark.parametrize("write", WRITES)
def test_no_statement_writes_a_file(ground: Ground, write: str) -> None:
    db, outside = ground.server.engine.folder / "db", f"{ground.data}/stray"
    for path in (outside, "/tmp/millrace-stray", f"{db}/stray", f"{db}/store/stray", "stray"):
        status, body = ground.ask(write.format(path))
        assert status != 200, (write, path, body)
        ground.check(write, body)
        assert not ground.strays(), write
    for path in (f"{ground.data}/stray", "/tmp/millrace-stray"):
        ground.check(write, ground.ask(write.format(path), "millrace")[1])
    ground.ask("DROP TABLE IF EXISTS millrace.f", "millrace")
    ground.ask("DROP DATABASE IF EXISTS f", "millrace")
    assert not os.path.exists("/tmp/millrace-stray")


REMOTE = (
    "url('http://{0}/', 'LineAsString', 'l String')",
    "url('http://{0}/', CSV, 'l String', headers('a'='b'))",
    "urlCluster('default', 'http://{0}/', 'CSV', 'l String')",
    "remote('{0}', 'system', 'one')",
    "remoteSecure('{0}', 'system', 'one')",
    "cluster('default', 'system', 'one')",
    "s3('http://{0}/bucket/key', 'CSV', 'l String')",
    "gcs('http://{0}/bucket/key', 'CSV', 'l String')",
    "oss('http://{0}/bucket/key', 'CSV', 'l String')",
    "mysql('{0}', 'a', 'b', 'c', 'd')",
    "postgresql('{0}', 'a', 'b', 'c', 'd')",
    "mongodb('{0}', 'a', 'b', 'c', 'd', 'l String')",
    "redis('{0}', 'a', 'a String')",
    "hdfs('hdfs://{0}/x', 'CSV', 'l String')",
    "azureBlobStorage('http://{0}/x', 'y', 'z', 'a', 'b', 'CSV', 'auto', 'l String')",
    "deltaLake('http://{0}/bucket/key')",
    "iceberg('http://{0}/bucket/key')",
    "hudi('http://{0}/bucket/key')",
    "arrowFlight('{0}', 'a')",
    "odbc('DSN=x', 'y')",
    "jdbc('x', 'y')",
    "ytsaurus('http://{0}', 'a', 'b', 'l String')",
)


@pytest.mark.parametrize("table", REMOTE)
def test_a_reader_reaches_no_service_on_the_loopback(ground: Ground, table: str) -> None:
    """The fixture checks at the end that nothing ever connected."""
    address = f"{LOOPBACK}:{ground.listener.getsockname()[1]}"
    shapes = ("SELECT * FROM {}", "DESCRIBE {}", "SELECT 1 IN (SELECT 1 FROM {})", "INSERT INTO FUNCTION {} SELECT 1")
    for shape in shapes:
        status, body = ground.ask(shape.format(table.format(address)))
        assert status != 200, (shape, body)


def test_the_kernel_refuses_the_owner_the_network(ground: Ground) -> None:
    address = f"{LOOPBACK}:{ground.listener.getsockname()[1]}"
    for table in (f"url('http://{address}/', 'LineAsString', 'l String')", f"mysql('{address}', 'a', 'b', 'c', 'd')"):
        quick = {"http_max_tries": "1", "connect_timeout": "1", "connection_pool_max_wait_ms": "500"}
        assert ground.ask(f"SELECT * FROM {table}", "millrace", max_execution_time="5", **quick)[0] != 200


OTHERS = (
    "SELECT * FROM other.secret",
    "SELECT s FROM `other`.`secret`",
    "SELECT * FROM merge('other', '.*')",
    "SELECT * FROM merge(REGEXP('.*'), 'secret')",
    "SELECT * FROM mergeTreeIndex(other, secret)",
    "SELECT * FROM mergeTreeProjection(other, secret, x)",
    "SELECT * FROM loop(other.secret) LIMIT 1",
    "SELECT * FROM view(SELECT * FROM other.secret)",
    "SELECT * FROM viewIfPermitted(SELECT * FROM other.secret ELSE null('s String'))",
    "SELECT * FROM numbers(1) WHERE number IN (SELECT length(s) FROM other.secret)",
    "SELECT (SELECT any(s) FROM other.secret)",
    "WITH x AS (SELECT * FROM other.secret) SELECT * FROM x",
    "SELECT * FROM millrace.shown AS a, other.secret AS b",
    "SELECT joinGet('other.secret', 's', 1)",
    "SELECT * FROM dictionary('other.secret')",
    "SELECT * FROM {t:Identifier}",
    "SELECT 1; SET ROLE admin; SELECT * FROM other.secret",
    "SELECT 1 UNION ALL SELECT s FROM other.secret",
    "SELECT query FROM system.processes",
    "SHOW PROCESSLIST",
    "SELECT * FROM merge('system', '^processes$')",
    "SELECT * FROM system.query_log",
    "SELECT * FROM system.users",
    "SHOW CREATE TABLE other.secret",
    "SHOW TABLES FROM other",
    "EXISTS TABLE other.secret",
    "DESCRIBE other.secret",
    "SELECT * FROM system.tables WHERE database = 'other'",
    "SELECT * FROM system.columns WHERE database = 'other'",
    "SELECT * FROM system.parts WHERE database = 'other'",
    "CHECK TABLE other.secret",
    "EXPLAIN ESTIMATE SELECT * FROM other.secret",
    "KILL QUERY WHERE 1",
    "KILL MUTATION WHERE 1",
    "SET ROLE admin",
    "SET ROLE ALL",
    "SET DEFAULT ROLE admin TO default",
    "GRANT admin TO default",
    "SET readonly = 0",
    "USE other",
    "SYSTEM SHUTDOWN",
    "SYSTEM STOP MERGES",
    "SYSTEM DROP QUERY CACHE",
    "DROP TABLE millrace.shown",
    "TRUNCATE TABLE millrace.shown",
    "ALTER TABLE millrace.shown DELETE WHERE 1",
    "OPTIMIZE TABLE millrace.shown FINAL",
    "RENAME TABLE millrace.shown TO millrace.gone",
    "EXCHANGE TABLES millrace.shown AND millrace.gone",
    "DETACH TABLE millrace.shown",
    "DELETE FROM millrace.shown WHERE 1",
    "UPDATE millrace.shown SET n = 1 WHERE 1",
    "MOVE ROLE a TO b",
    "BEGIN TRANSACTION",
    "CREATE TABLE millrace.f AS SELECT 1",
    "INSERT INTO millrace.shown VALUES (1)",
    "INSERT INTO millrace.shown FORMAT CSV\n1",
)


@pytest.mark.parametrize("sql", OTHERS)
def test_a_reader_sees_and_changes_nothing_of_others(ground: Ground, sql: str) -> None:
    spellings = (sql, f"/* SELECT */ {sql}", f"\ufeff{sql}", f"({sql})", f"EXPLAIN {sql}", sql.replace(" ", "\u00a0"))
    for spelling, more in itertools.product(spellings, ({}, {"database": "other"}, {"param_t": "other.secret"})):
        status, body = ground.ask(spelling, **more)
        ground.check((spelling, more), body)
        if "PROCESS" in sql.upper() and status == 200:
            assert body.strip() in (b"", b"0") or spelling.startswith("EXPLAIN"), body
    assert ground.ask("SELECT count(), sum(n) FROM millrace.shown")[1] == b"1000\t499500\n"
    assert ground.ask("SELECT count() FROM other.secret", "millrace")[1] == b"1\n"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_have_the_same_rights(ground: Ground, method: str) -> None:
    path = targets(ground)["csv"]
    for sql in (f"SELECT file('{path}')", f"SELECT 1 INTO OUTFILE '{ground.data}/stray'", "DROP TABLE millrace.shown"):
        connection = http.client.HTTPConnection(ground.server.host, ground.server.port, timeout=20)
        ask = {"query": sql, "user": "analyst", "password": ground.server.analyst_password}
        connection.request(method, "/?" + urllib.parse.urlencode(ask))
        ground.check((method, sql), connection.getresponse().read())
        connection.close()
    assert ground.ask("SELECT count() FROM millrace.shown")[1] == b"1000\n"


# ---- costs


def memory_bytes(ground: Ground, field: str = "VmHWM") -> int:
    process = ground.server.process
    assert process is not None
    line = next(x for x in Path(f"/proc/{process.pid}/status").read_text().splitlines() if x.startswith(field + ":"))
    return int(line.split()[1]) * 1024


@functools.cache
def packed(encoding: str, unpacked_bytes: int) -> bytes:
    block = b" " * (1 << 20)
    blocks = itertools.repeat(block, unpacked_bytes >> 20)
    if encoding == "gzip":
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        return b"".join(map(packer.compress, blocks)) + packer.flush()
    if encoding == "deflate":
        deflater = zlib.compressobj(1)
        return b"".join(map(deflater.compress, blocks)) + deflater.flush()
    if encoding == "zstd":
        zipper = zstandard.ZstdCompressor(level=1).compressobj()
        return b"".join(map(zipper.compress, blocks)) + zipper.flush()
    lz = lz4.frame.LZ4FrameCompressor()
    return bytes(lz.begin()) + b"".join(bytes(lz.compress(b)) for b in blocks) + bytes(lz.flush())


@pytest.mark.parametrize("user", ["analyst", "millrace"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "lz4"])
def test_a_bomb_costs_no_more_memory_than_its_limit(ground: Ground, encoding: str, user: str) -> None:
    before = memory_bytes(ground)
    status, body = ground.ask(packed(encoding, 512 << 20), user, {"Content-Encoding": encoding})
    assert status in (0, 400, 413), body[:200]
    assert memory_bytes(ground) - before < 256 << 20


@pytest.mark.parametrize(
    "opened",
    [
        "/*a",
        "'",
        '"',
        "`",
        "$$",
        "$a$b",
        "$a",
        "--",
        "/*",
        "'\\",
        "“",
        "( ",
        "[",
        "\\",
        "a.",
        "#!",
        ";",
        "*/*",
        "-- \n/*",
    ],
)
def test_time_to_tokenise_is_linear(opened: str) -> None:
    from local.clickhouse import sql
    from local.clickhouse.errors import ClickHouseError

    def took_s(size: int) -> float:
        text = b"SELECT 1 " + opened.encode() * (size // len(opened))
        began = time.process_time()
        with contextlib.suppress(ClickHouseError):
            sql.classify(text)
        with contextlib.suppress(ClickHouseError):
            sql.of_reader(text)
        return time.process_time() - began

    small = min(took_s(25_000) for _ in range(3))
    # sixteen times as much: quadratic time would be 256 times as long
    assert took_s(400_000) < 64 * max(small, 0.002)


def test_a_reader_cannot_lift_a_limit_and_may_lower_it(ground: Ground) -> None:
    for name in ("max_execution_time", "max_memory_usage", "max_result_rows", "max_result_bytes", "max_rows_to_read"):
        for value in ("0", "-1", "1e30", "99999999999999999999", "18446744073709551615", "inf", "", "１２"):
            status, body = ground.ask("SELECT 1", **{name: value})
            assert status == 400 and b"Code: 452" in body, (name, value, body)
        assert ground.ask(f"SELECT 1 SETTINGS {name} = 0")[0] == 403
    assert ground.ask("SELECT getSetting('max_execution_time')")[1] == b"120\n"
    assert ground.ask("SELECT getSetting('max_execution_time')", max_execution_time="3")[1] == b"3\n"


def test_time_memory_and_rows_of_a_reader_are_bounded(ground: Ground) -> None:
    endless = "SELECT count() FROM numbers(1000000000000000) WHERE sipHash64(number) = 1"
    status, body = ground.ask(endless, max_execution_time="1", max_rows_to_read="20000000000")
    assert b"Code: 159" in body or b"Code: 158" in body, (status, body)
    assert b"Code: 241" in ground.ask("SELECT length(groupArray(number)) FROM numbers(400000000)")[1]
    assert b"Code: 396" in ground.ask("SELECT number FROM numbers(100)", max_result_rows="10")[1]
    assert b"Code: 158" in ground.ask("SELECT sum(number) FROM numbers(100000000000)")[1]


def test_readers_do_not_keep_others_waiting(ground: Ground) -> None:
    """As many endless queries as a reader may ask for, and more; the owner's inserts go on."""
    endless = "SELECT count() FROM numbers(19000000000) WHERE sipHash64(number) = 1"
    more = {"max_execution_time": "4"}
    threads = [threading.Thread(target=ground.ask, args=(endless,), kwargs=more) for _ in range(16)]
    for thread in threads:
        thread.start()
    for at in range(5):
        assert ground.ask(f"INSERT INTO other.secret VALUES ('{at}')", "millrace")[0] == 200
    assert any(thread.is_alive() for thread in threads)
    ground.ask("ALTER TABLE other.secret DELETE WHERE length(s) = 1", "millrace", mutations_sync="1")
    for thread in threads:
        thread.join(90)


def test_a_head_that_is_too_large_is_cut_off(ground: Ground) -> None:
    with socket.create_connection((ground.server.host, ground.server.port), timeout=20) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(b"GET /ping HTTP/1.1\r\n" + b"x-a: " + b"a" * (1 << 20))
            connection.sendall(b"\r\n\r\n")
        received = b""
        with contextlib.suppress(OSError):
            received = connection.recv(100)
    assert not received.startswith(b"HTTP/1.1 200")
    assert ground.ask("SELECT 1")[1] == b"1\n"


def test_too_many_fields_and_broken_query_strings_are_refused(ground: Ground) -> None:
    assert ground.ask("SELECT 1", **{f"param_{n}": "1" for n in range(1200)})[0] == 400
    connection = http.client.HTTPConnection(ground.server.host, ground.server.port, timeout=20)
    connection.request("GET", "/?query=%ff%fe")
    assert connection.getresponse().status in (400, 403)
    connection.close()


# ---- confinement itself

CONFINED = """
import json, os, socket, subprocess, sys
from pathlib import Path
from local.clickhouse.sandbox import confine
found = confine(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
def tried(call):
    try:
        call()
        return "done"
    except (OSError, PermissionError) as error:
        return type(error).__name__
data = Path(sys.argv[1]).parent
print(json.dumps({
    "files": found.files, "network": found.network,
    "own": tried(lambda: (data / "engine/db/x").write_text("x")),
    "secret": tried(lambda: (data / "secret").read_text()),
    "write": tried(lambda: (data / "new").write_text("x")),
    "environ": tried(lambda: Path("/proc/self/environ").read_text()),
    "execute": tried(lambda: subprocess.run(["/bin/true"], check=True)),
    "connect": tried(lambda: socket.create_connection(("127.0.0.1", int(os.environ.get("PORT", "1"))), 2)),
    "variables": sorted(os.environ),
}))
"""


def _confined(folder: Path, *version: str) -> dict[str, object]:
    (folder / "engine").mkdir()
    (folder / "secret").write_text(CANARY)
    environment = {**os.environ, "CANARY": CANARY, "PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [sys.executable, "-c", CONFINED, str(folder / "engine"), *version]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=True, timeout=60)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_confined_process_opens_its_data_and_nothing_else(tmp_path: Path) -> None:
    found = _confined(tmp_path)
    assert (found["files"], found["network"], found["own"]) == (True, True, "done")
    for what in ("secret", "write", "environ", "execute", "connect"):
        assert found[what] == "PermissionError", what
    assert "CANARY" not in found["variables"]  # type: ignore[operator]


def test_a_kernel_without_landlock_for_tcp_needs_a_network_namespace_or_says_so(tmp_path: Path) -> None:
    found = _confined(tmp_path, "3")
    assert found["files"] is True
    assert found["secret"] == "PermissionError"
    assert found["network"] is (found["connect"] != "ConnectionRefusedError")


def test_a_kernel_without_landlock_says_that_files_are_in_reach(tmp_path: Path) -> None:
    assert _confined(tmp_path, "0")["files"] is False


def test_gzip_of_a_real_insert_still_works(ground: Ground) -> None:
    rows = gzip.compress(b"".join(b"%d\n" % n for n in range(200_000)))
    ground.ask("CREATE TABLE millrace.packed (n UInt64) ENGINE = MergeTree ORDER BY n", "millrace")
    status, body = ground.ask(
        rows, "millrace", {"Content-Encoding": "gzip"}, query="INSERT INTO millrace.packed FORMAT TSV"
    )
    assert status == 200, body
    assert ground.ask("SELECT sum(n) FROM millrace.packed")[1] == b"19999900000\n"
    ground.ask("DROP TABLE millrace.packed SYNC", "millrace")
