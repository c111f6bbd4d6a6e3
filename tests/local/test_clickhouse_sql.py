"""The pure parts of the ClickHouse front: what a statement is, what readers may name, how chunks are joined."""

import pyarrow as pa
import pytest

from local.clickhouse import compression, formats, users
from local.clickhouse.errors import ClickHouseError
from local.clickhouse.sql import Kind, classify, target


@pytest.mark.parametrize(
    ("sql", "kind", "form"),
    [
        (b"select 1", Kind.SELECT, None),
        (b"  -- c\n (select 1) union all (select 2) format CSV", Kind.SELECT, "CSV"),
        (b"with 1 as x select x format JSON;", Kind.SELECT, "JSON"),
        (b"from t select a", Kind.SELECT, None),
        (b"select 'format CSV'", Kind.SELECT, None),
        (b"select format('{}', 1)", Kind.SELECT, None),
        (b"select * from (select 1 format) ", Kind.SELECT, None),
        (b"/* insert */ show tables", Kind.SHOW, None),
        (b"explain select 1", Kind.SHOW, None),
        (b"create table t (a Int8) engine = Memory", Kind.OTHER, None),
        (b"insert into t select * from u", Kind.OTHER, None),
        (b"insert into t with 1 as x select x", Kind.OTHER, None),
        (b"insert into t (a) select * from u", Kind.OTHER, None),
    ],
)
def test_statements_are_told_apart(sql: bytes, kind: Kind, form: str | None) -> None:
    found = classify(sql)
    assert (found.kind, found.format) == (kind, form)


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"insert into t", ("t", "", "")),
        (b"INSERT INTO TABLE db.`a b` (a, `b)`)  settings x = 'y' ", ("db.`a b`", "a, `b)`", "settings x = 'y'")),
        (b"insert into t (* except(b)) ;", ("t", "* except(b)", "")),
        (b"insert into t settings a = 1", ("t", "", "settings a = 1")),
        (b"insert into function file('x')", None),
    ],
)
def test_the_target_of_an_insert(head: bytes, found: tuple[str, str, str] | None) -> None:
    assert target(head) == found


@pytest.mark.parametrize(
    ("sql", "form", "head", "data"),
    [
        (b"insert into t values (1)", "Values", b"insert into t ", b" (1)"),
        (b"INSERT INTO t (a, b) FORMAT CSV\n1,2\n", "CSV", b"INSERT INTO t (a, b) ", b"1,2\n"),
        (b"insert into `values` (`format`) format TSV \r\nx", "TSV", b"insert into `values` (`format`) ", b"x"),
        (
            b"insert into t settings async_insert=0 format ArrowStream\n",
            "ArrowStream",
            b"insert into t settings async_insert=0 ",
            b"",
        ),
        (b'insert into t format JSONEachRow {"a":1}', "JSONEachRow", b"insert into t ", b'{"a":1}'),
    ],
)
def test_an_insert_is_split_into_head_and_data(sql: bytes, form: str, head: bytes, data: bytes) -> None:
    found = classify(sql)
    assert found.kind is Kind.INSERT
    assert (found.format, found.head, sql[found.data_at :]) == (form, head, data)


def test_an_insert_without_format_takes_that_of_the_request() -> None:
    found = classify(b"insert into t (a)")
    assert (found.kind, found.format, found.head, found.data_at) == (Kind.INSERT, None, b"insert into t (a)", None)


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        (b"", 62),
        (b" -- nothing\n", 62),
        (b"select 1; select 2", 62),
        (b"select 1 into outfile '/tmp/x'", 48),
        (b"select 1 into/**/outfile '/tmp/x'", 48),
        (b"insert into t from infile '/etc/passwd' format CSV", 48),
        (b"set max_threads = 1", 48),
        (b"use system", 48),
        (b"create temporary table t (a Int8)", 48),
    ],
)
def test_what_the_front_does_not_do_is_said(sql: bytes, code: int) -> None:
    with pytest.raises(ClickHouseError) as raised:
        classify(sql)
    assert raised.value.code == code


def _stream(*batches: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def test_arrow_chunks_become_one_stream() -> None:
    batches = [pa.record_batch({"n": [i, i + 1], "s": [f"é{i}", None]}) for i in range(3)]
    joiner = formats.joiner("ArrowStream")
    assert joiner is not None
    joined = b"".join(joiner.join(_stream(batch)) for batch in batches) + joiner.tail
    with pa.ipc.open_stream(joined) as reader:
        assert reader.read_all() == pa.Table.from_batches(batches)


def test_headers_are_kept_once() -> None:
    joiner = formats.joiner("CSVWithNamesAndTypes")
    assert joiner is not None
    head = b'"a"\n"Int8"\n'
    assert joiner.join(head + b"1\n") + joiner.join(head + b"2\n") + joiner.tail == head + b"1\n2\n"


def test_formats_that_have_a_frame_are_not_streamed() -> None:
    assert formats.joiner("JSON") is None
    assert formats.joiner("Parquet") is None


@pytest.mark.parametrize("name", ["lz4", "zstd", "gzip"])
def test_encodings_are_undone_in_pieces(name: str) -> None:
    packer, data = compression.compressor(name), b"millrace" * 10_000
    packed = packer.compress(data[:5000]) + packer.compress(data[5000:]) + packer.flush()
    unpacker = compression.decompressor(name)
    assert b"".join(piece for i in range(0, len(packed), 100) for piece in unpacker.pieces(packed[i : i + 100])) == data


def test_the_cheapest_encoding_that_the_client_takes_is_chosen() -> None:
    assert compression.choose("gzip, deflate, zstd;q=0.5") == "zstd"
    assert compression.choose("br") is None


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"x-clickhouse-user": "analyst", "x-clickhouse-key": "good"}, {}),
        ({"authorization": "Basic YW5hbHlzdDpnb29k"}, {}),
        ({}, {"user": "analyst", "password": "good"}),
    ],
)
def test_a_user_comes_in_by_header_or_query(headers: dict[str, str], query: dict[str, str]) -> None:
    known = {"analyst": users.make("analyst", "good", "analyst")}
    assert users.authenticate(known, headers, query).reads_only


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({}, {}),
        ({}, {"user": "analyst"}),
        ({"x-clickhouse-user": "analyst", "x-clickhouse-key": "bad"}, {}),
        ({"authorization": "Basic !!"}, {}),
        ({"authorization": "Bearer x"}, {}),
        ({}, {"user": "nobody", "password": ""}),
    ],
)
def test_nobody_else_comes_in(headers: dict[str, str], query: dict[str, str]) -> None:
    known = {"analyst": users.make("analyst", "good", "analyst")}
    with pytest.raises(ClickHouseError) as raised:
        users.authenticate(known, headers, query)
    assert raised.value.code == 516
