"""`millrace sql` against a real server: who may do what, and that no digit is lost on the way."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.errors import Exit
from cli.main import millrace
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings
from tests.servers import ClickHouseServer

ROOT = Path(__file__).parents[2]
VALUES = (
    "SELECT 63100.68 AS a, 1234567.89 AS b, 123456789.0 AS c, 0.1 + 0.2 AS d, toDecimal64('1.10', 2) AS e,"
    " 18446744073709551615 AS f, toDateTime64('2026-01-02 03:04:05.123456', 6, 'UTC') AS g, NULL AS h, 'x\\ty' AS i"
)
EXACT = ["63100.68", "1234567.89", "123456789", "0.30000000000000004", "1.1", "18446744073709551615",
         "2026-01-02 03:04:05.123456"]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    found = ClickHouseServer(tmp_path_factory.mktemp("sql"))
    found.start()
    try:
        with ClickHouse(ClickHouseSettings(found.url, found.password_file)) as db:
            db.command("CREATE TABLE IF NOT EXISTS kept (a Int64) ENGINE = MergeTree ORDER BY a")
            db.command("INSERT INTO kept SELECT number FROM numbers(1500)")
        yield found
    finally:
        found.stop()


@pytest.fixture
def environment(server: ClickHouseServer) -> dict[str, str]:
    return {
        "MILLRACE_CLICKHOUSE_URL": server.url,
        "MILLRACE_CLICKHOUSE_PASSWORD_FILE": str(server.password_file),
        "MILLRACE_ANALYST_URL": server.engine.analyst_url,
        "MILLRACE_ANALYST_PASSWORD_FILE": str(server.engine.analyst_password_file),
    }


@pytest.fixture
def sql(environment: dict[str, str]) -> Callable[..., Result]:
    return lambda *words: CliRunner(env=environment).invoke(millrace, ["sql", *words])


def in_terminal(environment: dict[str, str], columns: int, *words: str) -> str:
    """What a terminal of that width shows."""
    ours, theirs = pty.openpty()
    own = {"COLUMNS": str(columns), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "cli.main", "sql", *words]
    process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | environment | own)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    process.wait(60)
    return shown.decode().replace("\r\n", "\n")


def count(server: ClickHouseServer) -> int:
    with ClickHouse(ClickHouseSettings(server.url, server.password_file)) as db:
        return int(db.rows("SELECT count() FROM kept")[0][0])


@pytest.mark.parametrize(
    "statement",
    ["DROP TABLE kept", "TRUNCATE TABLE kept", "INSERT INTO kept VALUES (1)", "ALTER TABLE kept DELETE WHERE 1"],
)
def test_a_reader_drops_and_changes_nothing(
    sql: Callable[..., Result], server: ClickHouseServer, statement: str
) -> None:
    done = sql(statement)
    assert done.exit_code == Exit.FAILED, done.output
    assert done.stderr.startswith("millrace: ClickHouse: ") and "`--owner` changes tables" in done.stderr
    assert done.stderr.count("\n") == 1
    assert count(server) == 1500


def test_without_an_analyst_the_server_is_told_to_change_nothing(
    environment: dict[str, str], server: ClickHouseServer
) -> None:
    only = {name: value for name, value in environment.items() if "ANALYST" not in name}
    done = CliRunner(env=only).invoke(millrace, ["sql", "DROP TABLE kept"])
    assert done.exit_code == Exit.FAILED and "`--owner` changes tables" in done.stderr, done.output
    assert CliRunner(env=only).invoke(millrace, ["sql", "SELECT count() FROM kept"]).stdout == "count()\n1500\n"
    assert count(server) == 1500


def test_the_owner_is_asked_and_without_a_terminal_refused(
    sql: Callable[..., Result], server: ClickHouseServer
) -> None:
    done = sql("--owner", "DROP TABLE kept")
    assert done.exit_code == Exit.FAILED
    assert "on the platform of the environment" in done.stderr and "use --yes" in done.stderr
    assert count(server) == 1500
    assert sql("--owner", "SELECT count() FROM kept").exit_code == Exit.OK, "reading is not asked about"
    assert sql("--owner", "--yes", "CREATE TABLE gone (a Int8) ENGINE = Memory").exit_code == Exit.OK
    assert sql("--owner", "--yes", "DROP TABLE gone").exit_code == Exit.OK


def test_no_digit_is_lost_in_a_pipe_in_json_or_in_a_terminal(
    sql: Callable[..., Result], environment: dict[str, str]
) -> None:
    names, values = sql(VALUES).stdout.splitlines()
    assert names.split("\t") == list("abcdefghi")
    assert values.split("\t") == [*EXACT, "\\N", "x\\ty"]
    (line,) = sql("--json", VALUES).stdout.splitlines()
    assert all(value in line for value in EXACT)
    table = in_terminal(environment, 300, VALUES)
    assert table.splitlines()[1].split(maxsplit=7)[:6] == EXACT[:6]
    assert EXACT[6] in table and "NULL" in table
    tall = in_terminal(environment, 60, VALUES)
    assert tall.startswith("Row 1:") and all(value in tall for value in EXACT)


def test_a_pipe_is_not_folded_and_no_rows_are_said_so(sql: Callable[..., Result], environment: dict[str, str]) -> None:
    wide = sql("SELECT repeat('x', 500) AS a, repeat('y', 500) AS b")
    assert wide.stdout == f"a\tb\n{'x' * 500}\t{'y' * 500}\n"
    none = sql("SELECT a FROM kept WHERE a < 0")
    assert (none.stdout, none.stderr) == ("a\n", "(0 rows)\n")
    assert in_terminal(environment, 80, "SELECT a FROM kept WHERE a < 0") == "a\n(0 rows)\n"


def test_a_terminal_shows_the_first_rows_and_says_how_many_more(environment: dict[str, str]) -> None:
    shown = in_terminal(environment, 80, "SELECT a FROM kept ORDER BY a").splitlines()
    assert shown[1000].strip() == "999"
    assert shown[1001].startswith("… 500 more rows")


@pytest.mark.parametrize("query", ["SELECT 1 AS a FORMAT CSV", "SELECT 1 AS a FORMAT CSV;", "SELECT 1 AS a"])
def test_a_format_may_stand_in_the_query_or_in_the_option(sql: Callable[..., Result], query: str) -> None:
    more = () if "FORMAT" in query else ("--format", "CSV")
    assert sql(query, *more).stdout == "1\n"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT 1 +", "Syntax error"),
        ("SELECT nope FROM kept", "nope"),
        ("SELECT 1 FROM nowhere", "nowhere"),
        ("SELECT throwIf(number = 100000) FROM numbers(200000)", "throwIf"),
    ],
)
def test_what_clickhouse_refuses_is_one_line_in_its_own_words(
    sql: Callable[..., Result], query: str, words: str
) -> None:
    done = sql(query)
    assert done.exit_code == Exit.FAILED, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("millrace: ClickHouse: ") and done.stderr.count("\n") == 1
    assert words in done.stderr
    assert not any(noise in done.stderr for noise in ("TabSeparated", "for url", "Expected one of"))


def test_a_format_that_clickhouse_does_not_know_is_one_line(sql: Callable[..., Result]) -> None:
    done = sql("SELECT 1", "--format", "Nonsense")
    assert (done.exit_code, done.stdout) == (Exit.FAILED, "")
    assert "Nonsense" in done.stderr and done.stderr.count("\n") == 1


def test_an_empty_query_is_wrong_usage(sql: Callable[..., Result]) -> None:
    for query in ("", " ; "):
        done = sql(query)
        assert done.exit_code == Exit.USAGE and "the query is empty" in done.stderr
