"""The one client of ClickHouse: defaults of the URL, errors as policy, streams that end or raise."""

import http.server
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
import urllib3

from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings, endpoint
from runtime.clickhouse.streams import arrow_batches
from runtime.errors import FatalError, RefusedError, RetryableError
from tests.servers import ClickHouseServer

EXCEPTION = (
    b"\r\n__exception__\r\n0123456789abcdef\r\nCode: 241. DB::Exception: Memory limit exceeded.\n"
    b"(MEMORY_LIMIT_EXCEEDED)\n63 0123456789abcdef\r\n__exception__\r\n"
)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a@b/c", (False, "b:8123", "a", "", "c")),
        ("https://a:p%40@b", (True, "b:8443", "a", "p@", "millrace")),
        ("http://[::1]:9000/x", (False, "[::1]:9000", "default", "", "x")),
    ],
)
def test_every_reader_of_the_url_takes_the_same_defaults(url: str, expected: tuple[object, ...]) -> None:
    found = endpoint(ClickHouseSettings(url))
    assert (found.secure, found.address, found.user, found.password, found.database) == expected


@pytest.mark.parametrize("url", ["clickhouse://x", "b:8123", "http://", "http://b:port/x", "http://[::1/x", ""])
def test_a_url_of_another_form_is_refused_by_the_name_of_its_setting(url: str) -> None:
    with pytest.raises(RefusedError, match="MILLRACE_CLICKHOUSE_URL"):
        endpoint(ClickHouseSettings(url))


@pytest.fixture(scope="module")
def db(clickhouse: ClickHouseServer) -> Iterator[ClickHouse]:
    with ClickHouse(ClickHouseSettings(clickhouse.url, clickhouse.password_file)) as db:
        yield db


def test_a_password_that_cannot_be_read_is_no_traceback(clickhouse: ClickHouseServer, tmp_path: Path) -> None:
    with pytest.raises(RetryableError, match="ClickHouse at"):
        ClickHouse(ClickHouseSettings(clickhouse.url, tmp_path / "none"))


def test_records_are_rows_by_column(db: ClickHouse) -> None:
    assert db.records("SELECT 1 AS a, {b:String} AS b", {"b": "x"}) == [{"a": 1, "b": "x"}]


def test_a_stream_brings_every_row(db: ClickHouse) -> None:
    sizes = [batch.num_rows for batch in db.batches("SELECT number FROM numbers({n:UInt64})", {"n": 1_000_000})]
    assert sum(sizes) == 1_000_000
    assert len(sizes) > 1


def test_a_stream_without_rows_has_a_schema(db: ClickHouse) -> None:
    (batch,) = db.batches("SELECT number AS n, toString(number) AS s FROM numbers(3) WHERE n > 5", strings=True)
    assert (batch.num_rows, batch.schema.names, batch.schema.field("s").type) == (0, ["n", "s"], pa.string())


def test_an_exception_behind_valid_batches_is_raised_and_not_taken_for_the_end(db: ClickHouse) -> None:
    batches = db.batches("SELECT throwIf(number = 3000000), number FROM numbers(5000000)")
    rows = next(batches).num_rows
    with pytest.raises(FatalError, match=r"throwIf.*FUNCTION_THROW_IF"):
        rows += sum(batch.num_rows for batch in batches)
    assert 0 < rows <= 3_000_000
    assert db.rows("SELECT 1") == [(1,)]


def test_raw_does_not_answer_an_exception_as_data(db: ClickHouse) -> None:
    with pytest.raises(FatalError, match="throwIf"):
        db.raw("SELECT throwIf(number = 3000000), number FROM numbers(5000000)", "CSV")


def test_a_stream_may_be_left_early(db: ClickHouse) -> None:
    batches = db.batches("SELECT number FROM numbers(100000000)")
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert db.rows("SELECT 1") == [(1,)]


class _Answer:
    """A response of urllib3's that brings these pieces, then the error."""

    def __init__(self, pieces: Sequence[bytes], error: Exception | None = None) -> None:
        self._pieces, self._error = pieces, error

    def stream(self, size: int) -> Iterator[bytes]:
        yield from self._pieces
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        pass


def _arrow(batches: int) -> bytes:
    sink = pa.BufferOutputStream()
    batch = pa.record_batch({"n": [1, 2, 3]})
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(batches):
            writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def test_a_stream_is_whole_or_raises_wherever_it_is_cut() -> None:
    data = _arrow(2)
    assert sum(b.num_rows for b in arrow_batches(_Answer([data]), "x")) == 6
    for cut in range(len(data)):
        with pytest.raises(RetryableError, match="ended prematurely"):
            list(arrow_batches(_Answer([data[:cut]]), "x"))
        with pytest.raises(RetryableError, match="ended prematurely"):
            list(arrow_batches(_Answer([data[:cut]], OSError("reset")), "x"))


@pytest.mark.parametrize("pieces", [lambda d: [d], lambda d: [d[i : i + 1] for i in range(len(d))]])
def test_the_text_of_the_exception_is_found_wherever_it_begins(pieces: Callable[[bytes], list[bytes]]) -> None:
    data = _arrow(2)
    for cut in (0, 8, 100, len(data) - 8, len(data)):
        with pytest.raises(RetryableError, match=r"Memory limit exceeded\. \(MEMORY_LIMIT_EXCEEDED\)$"):
            list(arrow_batches(_Answer(pieces(data[:cut] + EXCEPTION), OSError("cut")), "x"))


def test_a_server_that_dies_in_a_stream_is_noticed(tmp_path: Path) -> None:
    """Over a real connection: chunked, and without the last chunk."""
    data = _arrow(2)[:-8]

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        pool = urllib3.PoolManager()
        answer = pool.request("POST", f"http://127.0.0.1:{server.server_port}/", preload_content=False)
        with pytest.raises(RetryableError, match="ended prematurely"):
            list(arrow_batches(answer, "x"))
        pool.clear()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
