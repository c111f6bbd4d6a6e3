"""`millrace sql`: ask ClickHouse, as somebody who can only read; `--owner` changes tables."""

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

import click
import orjson

from cli import grid
from cli.ask import confirm
from cli.context import announce, data_option, settings, target
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.errors import translated
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.errors import FatalError, MillraceError
from runtime.settings import setting

MOST_ROWS: Final = 1_000
"""More are not shown in a terminal."""

_TABLE: Final = "JSONCompactStringsEachRowWithNamesAndTypes"
"""Every value as ClickHouse writes it: nothing is rounded on the way."""
_PIPE: Final = "TabSeparatedWithNames"
_NULL: Final = "ᴺᵁᴸᴸ"
_READS: Final = ("SELECT", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN")
_NUMBER: Final = re.compile(r"(?:Nullable\()?(?:U?Int|Float|Decimal)")
_FORMAT: Final = re.compile(r"\bFORMAT\s+(\w+)\s*$", re.IGNORECASE)
_EXCEPTION: Final = re.compile(r"Code: (\d+)\.\s*(?:DB::Exception: )?(.*)", re.DOTALL)
_NOISE: Final = re.compile(r" \(for url [^)]*\)|(?<=\.) Expected one of: .*?\.(?= \()")
"""Whom the client asked, and the list of all that could have stood there."""
_READ_ONLY: Final = frozenset({164, 497})
"""ClickHouse's codes READONLY and ACCESS_DENIED."""


@dataclass(frozen=True)
class SqlSettings(ClickHouseSettings):
    """Where ClickHouse is, and who only reads."""

    analyst_url: str | None = setting(None, doc="http(s)://user@host:port/database of the user who only reads")
    analyst_password_file: Path | None = setting(None, doc="file that holds that user's password", readable=True)


class SqlError(MillraceError):
    """ClickHouse refuses the statement, in its own words."""


@click.command()
@click.argument("query")
@click.option("--format", "form", metavar="FORMAT", help="Any format of ClickHouse: CSVWithNames, Vertical, Parquet, …")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row.")
@click.option("--owner", is_flag=True, help="As the owner of the tables, who may change and drop them; asks first.")
@click.option("--yes", is_flag=True, help="With --owner: do not ask.")
@data_option
def sql(query: str, form: str | None, as_json: bool, owner: bool, yes: bool, data: Path) -> None:
    """Run QUERY as a read-only user. In a terminal the result is a table, or a line for each value if it is too wide;
    in a pipe it is tab-separated with a header line. Values are printed as ClickHouse writes them.

    Example: millrace sql "SELECT device, avg(value) FROM readings WHERE metric = 'temperature' GROUP BY device"
    """
    query, form = _without_format(query, "JSONEachRow" if as_json else form)
    found = settings(SqlSettings, data)
    reads = _reads(query)
    if owner and not reads:
        announce(data)
        confirm(f"Run {query[:60]!r} as the owner of {target(data)}?", yes)
    user, limits = (found, {}) if owner else _reader(found)
    with _in_its_own_words(owner), ClickHouse(user) as db:
        if owner and not reads:
            click.echo(str(db.client.command(query)).strip() or "done")
        elif form is None and sys.stdout.isatty():
            _show(_answer(db, query, _TABLE, limits))
        else:
            _copy(_answer(db, query, form or _PIPE, limits), is_text=form is None)


def _without_format(query: str, form: str | None) -> tuple[str, str | None]:
    """The query without `;` and `FORMAT …` at its end, which is then the format, unless an option says another."""
    query = query.strip().rstrip(";").strip()
    named = _FORMAT.search(query)
    if named:
        query, form = query[: named.start()].strip(), form or named[1]
    if not query:
        raise click.UsageError("the query is empty")
    return query, form


def _reads(query: str) -> bool:
    """Whether it certainly changes nothing. What it is not sure of, the operator is asked about."""
    return query.lstrip("( \n\t").upper().startswith(_READS)


def _reader(found: SqlSettings) -> tuple[ClickHouseSettings, dict[str, Any]]:
    """The connection of the user who only reads; where none is set, the query is sent as read-only."""
    if found.analyst_url:
        return replace(
            found, clickhouse_url=found.analyst_url, clickhouse_password_file=found.analyst_password_file
        ), {}
    return found, {"readonly": 1}


def _answer(db: ClickHouse, query: str, form: str, limits: dict[str, Any]) -> IO[bytes]:
    """The server sends nothing before it is done: an error in the middle is an error, never a part of the answer."""
    with translated("sql"):
        more = {"X-ClickHouse-Format": form}  # not at the end of the query, where it could change what that means
        settings = {"wait_end_of_query": 1, **limits}
        stream: IO[bytes] = db.client.raw_stream(query, settings=settings, transport_settings=more)
    return stream


def _copy(answer: IO[bytes], is_text: bool) -> None:
    lines = 0
    for chunk in iter(lambda: answer.read(1 << 16), b""):
        lines += chunk.count(b"\n")
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
    if is_text and lines <= 1:
        click.echo("(0 rows)", err=True)


def _show(answer: IO[bytes]) -> None:
    lines = _lines(answer)
    names, kinds = next(lines), next(lines)
    rows: list[list[str]] = []
    more = 0
    for line in lines:
        if len(rows) < MOST_ROWS:
            rows.append(["NULL" if cell == _NULL else cell for cell in line])
        else:
            more += 1
    numeric = [bool(_NUMBER.match(kind)) for kind in kinds]
    click.echo(grid.render(names, numeric, rows, shutil.get_terminal_size().columns))
    if not rows:
        click.echo("(0 rows)")
    if more:
        click.echo(f"… {more:,} more rows: `| less`, LIMIT, or --format CSVWithNames shows them", err=True)


def _lines(answer: IO[bytes]) -> Iterator[list[str]]:
    left = b""
    for chunk in iter(lambda: answer.read(1 << 16), b""):
        *whole, left = (left + chunk).split(b"\n")
        yield from (orjson.loads(line) for line in whole if line)
    if left.strip():
        yield orjson.loads(left)


@contextmanager
def _in_its_own_words(owner: bool) -> Iterator[None]:
    """ClickHouse's message as one line, without what the client puts around it."""
    try:
        yield
    except MillraceError as error:
        said = _EXCEPTION.search(" ".join(str(error.__cause__ or error).split()))
        code = int(said[1]) if said else 0
        if not isinstance(error, FatalError) and code not in _READ_ONLY:
            raise
        text = _NOISE.sub("", said[2] if said else str(error))
        advice = "; `--owner` changes tables" if code in _READ_ONLY and not owner else ""
        raise SqlError(f"ClickHouse: {text[:600]}{advice}") from error
