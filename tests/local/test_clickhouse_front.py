"""What clients expect of ClickHouse's HTTP interface, asked of the local front by clickhouse-connect and plain HTTP."""

import asyncio
import datetime as dt
import gzip
import http.client
import os
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import clickhouse_connect
import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from clickhouse_connect.driver.external import ExternalData

from tests.servers import ClickHouseServer

COLUMNS = (
    "a Int32, s String, l LowCardinality(String), t DateTime64(3), f Float64, n Nullable(Float32), arr Array(UInt8)"
)


def connect(server: ClickHouseServer, **more: Any) -> Any:
    return clickhouse_connect.get_client(
        **{"host": server.host, "port": server.port, "username": server.user, "password": server.password} | more
    )


@pytest.fixture(scope="module")
def client(clickhouse: ClickHouseServer) -> Iterator[Any]:
    client = connect(clickhouse)
    client.command("CREATE DATABASE front")
    yield client
    client.command("DROP DATABASE front")
    client.close()


@pytest.fixture
def table(client: Any) -> Iterator[str]:
    client.command(f"CREATE TABLE front.t ({COLUMNS}) ENGINE = MergeTree ORDER BY a")
    rows = [[i, f"s{i}", "l", dt.datetime(2026, 1, 1, 0, 0, i), 1.5, None, [1, 2]] for i in range(10)]
    assert client.insert("front.t", rows).written_rows == 10
    yield "front.t"
    client.command("DROP TABLE front.t SYNC")


def test_rows_come_back_as_they_went_in(client: Any, table: str) -> None:
    rows = client.query(f"SELECT * FROM {table} ORDER BY a LIMIT 1").result_rows
    assert rows == [(0, "s0", "l", dt.datetime(2026, 1, 1), 1.5, None, [1, 2])]


def test_empty_results_have_columns_where_the_format_tells_them(client: Any, table: str) -> None:
    assert client.query(f"SELECT * FROM {table} LIMIT 0").column_names[0] == "a"
    assert client.query_arrow(f"SELECT a FROM {table} WHERE a > 100").num_rows == 0


def test_large_arrow_results_are_one_stream(client: Any) -> None:
    found = client.query_arrow("SELECT number, toLowCardinality(toString(number % 7)) l FROM numbers(1000000)")
    assert found.num_rows == 1_000_000
    assert found["number"][999_999].as_py() == 999_999
    with client.query_arrow_stream("SELECT number FROM numbers(2000000)") as stream:
        sizes = [part.num_rows for part in stream]
    assert sum(sizes) == 2_000_000
    assert len(sizes) > 1


def test_arrow_inserts(client: Any, table: str) -> None:
    rows = client.query_arrow(f"SELECT * FROM {table}")
    assert client.insert_arrow(table, rows).written_rows == 10
    assert client.command(f"SELECT count() FROM {table}") == 20


@pytest.mark.parametrize("compressed", [None, "gzip"])
def test_text_inserts(client: Any, table: str, compressed: str | None) -> None:
    data = b'1000,"q,w"\n1001,z\n'
    data = gzip.compress(data) if compressed else data
    assert client.raw_insert(table, ["a", "s"], data, fmt="CSV", compression=compressed).written_rows == 2
    assert client.query(f"SELECT s FROM {table} WHERE a >= 1000 ORDER BY a").result_rows == [("q,w",), ("z",)]


def test_values_in_the_statement(client: Any, table: str) -> None:
    client.command(f"INSERT INTO {table} (a, s) VALUES (77, 'x'), (78, 'y''z')")
    assert client.query(f"SELECT s FROM {table} WHERE a > 76 ORDER BY a").result_rows == [("x",), ("y'z",)]


def test_raw_results(client: Any) -> None:
    assert client.raw_query("SELECT number FROM numbers(3)", fmt="CSV") == b"0\n1\n2\n"
    assert len(client.raw_stream("SELECT number FROM numbers(300000)", fmt="TabSeparated").read()) == 1_988_890


def test_parameters_of_the_server_and_of_the_client(client: Any) -> None:
    given = {"a": 5, "s": "it's\t\n\\x", "l": ["a'b", "c"], "d": dt.datetime(2026, 1, 1)}
    rows = client.query("SELECT {a:Int32}, {s:String}, {l:Array(String)}, {d:DateTime}", parameters=given).result_rows
    assert rows == [tuple(given.values())]
    assert client.query("SELECT %(a)s, %(s)s", parameters={"a": 5, "s": "it's"}).result_rows == [(5, "it's")]


def test_settings_hold_for_one_request(client: Any) -> None:
    ask = "SELECT getSetting('max_threads')"
    usual = client.query(ask).result_rows
    assert client.query(ask, settings={"max_threads": 7}).result_rows == [(7,)]
    assert client.query(ask).result_rows == usual
    with pytest.raises(DatabaseError, match="115"):
        client.query("SELECT 1", settings={"nope": 1})


def test_the_database_of_a_client(client: Any, clickhouse: ClickHouseServer, table: str) -> None:
    assert connect(clickhouse, database="front").command("SELECT count() FROM t") == 10
    with pytest.raises(DatabaseError, match="81"):
        connect(clickhouse, database="no'such`db")


@pytest.mark.parametrize("encoding", ["lz4", "zstd", "gzip", False])
def test_compression_both_ways(client: Any, clickhouse: ClickHouseServer, table: str, encoding: str | bool) -> None:
    packed = connect(clickhouse, compress=encoding)
    assert packed.query("SELECT number, toString(number) FROM numbers(200000)").row_count == 200_000
    packed.insert(table, [[5000, "a"]], column_names=["a", "s"])
    packed.insert_arrow(table, pa.table({"a": pa.array([5001], pa.int32()), "s": ["z"]}))
    assert packed.command(f"SELECT count() FROM {table} WHERE a >= 5000") == 2


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda c: c.query("SELECT nope FROM front.t"), "47"),
        (lambda c: c.query("SELEC 1"), "62"),
        (lambda c: c.insert("front.nope", [[1]], column_names=["a"]), "60"),
        (lambda c: c.raw_insert("front.t", ["a", "s"], b'abc,"q,w"\n', fmt="CSV"), "27"),
        (lambda c: c.raw_query("SELECT 1", fmt="DataFrame"), "73"),
    ],
)
def test_errors_have_codes(client: Any, table: str, call: Callable[[Any], Any], code: str) -> None:
    with pytest.raises(DatabaseError, match=code):
        call(client)
    assert client.command(f"SELECT count() FROM {table}") == 10


def test_an_error_in_the_middle_of_a_stream_reaches_the_client(client: Any) -> None:
    ask = "SELECT throwIf(number = 3000000), number FROM numbers(5000000)"
    with pytest.raises(StreamFailureError, match="throwIf"), client.query_row_block_stream(ask) as stream:
        for _ in stream:
            pass


def test_a_token_outranks_content(client: Any) -> None:
    settings = "ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 1000"
    client.command(f"CREATE TABLE front.once (a Int32) {settings}")
    for _ in range(3):
        client.insert("front.once", [[1], [2]], column_names=["a"], settings={"insert_deduplication_token": "x"})
    other = pa.table({"a": pa.array([9], pa.int32())})
    client.insert_arrow("front.once", other, settings={"insert_deduplication_token": "x"})
    client.insert_arrow("front.once", other, settings={"insert_deduplication_token": "y"})
    assert client.query("SELECT a FROM front.once ORDER BY a").result_rows == [(1,), (2,), (9,)]


def test_what_the_table_refuses_is_an_error_and_no_insert(client: Any) -> None:
    settings = "ENGINE = MergeTree ORDER BY a PARTITION BY a SETTINGS parts_to_throw_insert = 1"
    client.command(f"CREATE TABLE front.full (a Int32, b Int32 DEFAULT a + 1) {settings}")
    with pytest.raises(DatabaseError, match="252"):  # too many partitions at once
        client.insert_arrow("front.full", pa.table({"a": pa.array(range(200), pa.int32())}))
    assert client.command("SELECT count() FROM front.full") == 0
    client.raw_insert("front.full", insert_block=b'{"a":1}', fmt="JSONEachRow")
    with pytest.raises(DatabaseError, match="252"):  # too many parts
        client.raw_insert("front.full", insert_block=b'{"a":1}', fmt="JSONEachRow")
    assert client.query("SELECT * FROM front.full").result_rows == [(1, 2)]


def test_clients_work_side_by_side(clickhouse: ClickHouseServer) -> None:
    async def ask() -> float:
        client = await clickhouse_connect.get_async_client(
            host=clickhouse.host, port=clickhouse.port, username=clickhouse.user, password=clickhouse.password
        )
        began = time.monotonic()
        await asyncio.gather(*(client.query("SELECT sleep(0.5)") for _ in range(6)))
        await client.close()
        return time.monotonic() - began

    assert asyncio.run(ask()) < 2.5


def test_tables_that_travel_with_a_request(client: Any, clickhouse: ClickHouseServer, table: str) -> None:
    csv = ExternalData(file_name="ext.csv", data=b"1,a\n2,b\n", fmt="CSV", structure=["k Int32", "v String"])
    assert client.query("SELECT * FROM ext ORDER BY k", external_data=csv).result_rows == [(1, "a"), (2, "b")]
    sink = pa.BufferOutputStream()
    rows = pa.table({"a": pa.array([9, 10], pa.int32()), "s": ["old", "new"]})
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    arrow = ExternalData(
        file_name="incoming", data=sink.getvalue().to_pybytes(), fmt="ArrowStream", structure=["a Int32", "s String"]
    )
    missing = f"INSERT INTO {table} (a, s) SELECT a, s FROM incoming WHERE a NOT IN (SELECT a FROM {table})"
    client.command(missing, external_data=arrow, settings={"insert_deduplication_token": "x"})
    assert client.query(f"SELECT s FROM {table} WHERE a > 8 ORDER BY a").result_rows == [("s9",), ("new",)]
    analyst = connect(clickhouse, username="analyst", password=clickhouse.analyst_password, database="millrace")
    with pytest.raises(DatabaseError, match="164"):
        analyst.query("SELECT * FROM ext", external_data=csv)


def test_parameters_in_a_form(clickhouse: ClickHouseServer) -> None:
    form = connect(clickhouse, form_encode_query_params=True)
    assert form.query("SELECT {a:Int32}, {s:String}", parameters={"a": 3, "s": "ä"}).result_rows == [(3, "ä")]


def test_the_analyst_reads_and_nothing_else(client: Any, clickhouse: ClickHouseServer) -> None:
    client.command("CREATE TABLE IF NOT EXISTS millrace.front_shown (a Int32) ENGINE = MergeTree ORDER BY a")
    client.insert("millrace.front_shown", [[1]], column_names=["a"])
    analyst = connect(clickhouse, username="analyst", password=clickhouse.analyst_password, database="millrace")
    assert analyst.command("SELECT sum(a) FROM front_shown") == 1
    assert analyst.query_arrow("SELECT a FROM front_shown").to_pylist() == [{"a": 1}]
    refused = [
        "INSERT INTO front_shown (a) VALUES (1)",
        "TRUNCATE TABLE front_shown",
        "DROP TABLE front_shown",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1/', 'LineAsString')",
        "SET readonly = 0",
        "SELECT 1 SETTINGS max_threads = 1",
        "SELECT 1 INTO/**/OUTFILE '/tmp/q'",
        "SELECT 1; SET ROLE ALL",
        "CREATE TABLE millrace.front_other (a Int32) ENGINE = Memory",
        "KILL QUERY WHERE 1",
    ]
    for statement in refused:
        with pytest.raises(DatabaseError):
            analyst.command(statement)
    with pytest.raises(DatabaseError):
        connect(clickhouse, username="analyst", password=clickhouse.analyst_password, database="front").command(
            "SELECT 1 FROM front.t"
        )
    client.command("DROP TABLE millrace.front_shown")


def _post(server: ClickHouseServer, body: bytes, password: str | None = None, **query: str) -> tuple[int, str, Any]:
    url = f"http://{server.host}:{server.port}/?{urllib.parse.urlencode(query)}"
    key = server.password if password is None else password
    request = urllib.request.Request(url, body, {"X-ClickHouse-User": "millrace", "X-ClickHouse-Key": key})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


def test_plain_http(clickhouse: ClickHouseServer) -> None:
    status, text, headers = _post(clickhouse, b"SELECT 1 AS x FORMAT JSONEachRow")
    assert (status, text) == (200, '{"x":1}\n')
    assert headers["X-ClickHouse-Format"] == "JSONEachRow"
    assert _post(clickhouse, b"", query="SELECT 2")[1] == "2\n"
    assert _post(clickhouse, b" 3", query="SELECT")[1] == "3\n"
    assert _post(clickhouse, b"SELECT 1", default_format="CSVWithNames")[1] == '"1"\n1\n'
    status, text, headers = _post(clickhouse, b"SELECT nope")
    assert status == 404
    assert headers["X-ClickHouse-Exception-Code"] == "47"
    assert text.startswith("Code: 47. DB::Exception: ")


def test_without_the_password_nobody_gets_more_than_ok(clickhouse: ClickHouseServer) -> None:
    assert _post(clickhouse, b"SELECT 1", password="guess")[0] == 403
    with urllib.request.urlopen(f"http://{clickhouse.host}:{clickhouse.port}/ping", timeout=5) as answer:
        assert answer.read() == b"Ok.\n"
    assert clickhouse.password_file.stat().st_mode & 0o777 == 0o600


def test_a_get_changes_nothing(clickhouse: ClickHouseServer) -> None:
    connection = http.client.HTTPConnection(clickhouse.host, clickhouse.port, timeout=10)
    ask = urllib.parse.quote("CREATE DATABASE by_get")
    connection.request("GET", f"/?query={ask}&user=millrace&password={clickhouse.password}")
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("X-ClickHouse-Exception-Code")) == (403, "164")
    connection.close()


def test_an_insert_that_breaks_off_leaves_nothing(client: Any, clickhouse: ClickHouseServer, table: str) -> None:
    head = (
        f"POST /?query=INSERT+INTO+{table}+(a)+FORMAT+CSV&user=millrace&password={clickhouse.password} HTTP/1.1\r\n"
        "Host: x\r\nContent-Length: 1000000\r\n\r\n"
    )
    with socket.create_connection((clickhouse.host, clickhouse.port)) as connection:
        connection.sendall(head.encode() + b"1\n" * 1000)
    # the insert is cancelled as soon as the server sees that the client is gone; a later insert is not disturbed
    client.insert(table, [[7]], column_names=["a"])
    assert client.command(f"SELECT count() FROM {table}") == 11


def test_broken_bodies_are_refused(clickhouse: ClickHouseServer) -> None:
    url = f"http://{clickhouse.host}:{clickhouse.port}/?query=INSERT+INTO+x+FORMAT+CSV"
    headers = {"X-ClickHouse-User": "millrace", "X-ClickHouse-Key": clickhouse.password, "Content-Encoding": "zstd"}
    request = urllib.request.Request(url, b"no zstd", headers)
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request, timeout=5)
    raised.value.close()


def test_acknowledged_inserts_survive_kill_9(clickhouse_fresh: Callable[[], ClickHouseServer]) -> None:
    server = clickhouse_fresh()
    client = connect(server)
    settings = "ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 1000"
    client.command(f"CREATE TABLE millrace.kept (a UInt64) {settings}")
    sent = 0

    def insert_until_killed() -> None:
        nonlocal sent
        try:
            while True:
                rows = pa.table({"a": pa.array(range(sent * 1000, (sent + 1) * 1000), pa.uint64())})
                client.insert_arrow("millrace.kept", rows, settings={"insert_deduplication_token": str(sent)})
                sent += 1
        except Exception:  # the server is gone
            return

    thread = threading.Thread(target=insert_until_killed)
    thread.start()
    deadline = time.monotonic() + 20
    while sent < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    server.kill()
    thread.join(20)
    server.start()
    again = connect(server)
    rows = pa.table({"a": pa.array(range(sent * 1000, (sent + 1) * 1000), pa.uint64())})
    again.insert_arrow("millrace.kept", rows, settings={"insert_deduplication_token": str(sent)})
    found = again.query("SELECT count(), uniqExact(a) FROM millrace.kept").result_rows
    assert found == [((sent + 1) * 1000,) * 2]


def test_it_ends_within_seconds_while_a_query_runs(clickhouse_fresh: Callable[[], ClickHouseServer]) -> None:
    server = clickhouse_fresh()
    process = server.process
    assert process is not None

    def ask() -> None:
        with pytest.raises(Exception):  # noqa: B017 - whatever a client makes of a server that leaves
            connect(server).query("SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1")

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    began = time.monotonic()
    assert process.stop() == 0
    assert time.monotonic() - began < 15
    thread.join(20)
    assert not os.path.exists(f"/proc/{process.pid}")
