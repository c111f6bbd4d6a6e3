"""What a statement is. Not a parser: a tokeniser that knows strings, comments, brackets and the words that matter.

It protects nothing. What users may do is decided by the engine's grants, by the kernel (sandbox) and, for readers, on
the canonical form that ClickHouse's own parser gives (`of_reader`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from local.clickhouse import errors

_TOKEN: Final = re.compile(
    rb"""\s+ | --[^\n]* | \#[ !][^\n]* | /\*(?:[^*]|\*(?!/))*+(?:\*/|\Z)
    | (?P<quoted> '(?:[^'\\]|\\.|\\\Z|'')*+(?:'|\Z) | "(?:[^"\\]|\\.|\\\Z|"")*+(?:"|\Z)
        | `(?:[^`\\]|\\.|\\\Z|``)*+(?:`|\Z)
        | \$(?P<tag>\w*+)\$.*?(?:\$(?P=tag)\$|\Z) )
    | (?P<word> [A-Za-z_]\w*+ ) | (?P<number> \d\w*+ ) | (?P<other> .)""",
    re.DOTALL | re.VERBOSE,
)
"""What is opened and not closed reaches to the end, and nothing is tried twice: the time is linear in the length."""
_REST_OF_LINE: Final = re.compile(rb"[ \t\f]*\r?\n?")
_SELECTS: Final = frozenset((b"SELECT", b"WITH", b"FROM"))
_SHOWS: Final = frozenset((b"SHOW", b"DESCRIBE", b"DESC", b"EXPLAIN", b"EXISTS"))


class Kind(Enum):
    SELECT = auto()
    """Its result may be streamed."""
    SHOW = auto()
    """Reads, but is answered whole."""
    INSERT = auto()
    """Data follow: in the statement behind `data_at`, and in the body."""
    OTHER = auto()
    """DDL, INSERT … SELECT, and whatever else changes something."""


@dataclass(frozen=True, slots=True)
class Statement:
    """`format` as the statement names it, or None. For INSERT: `head` without format and data."""

    kind: Kind
    format: str | None = None
    head: bytes = b""
    data_at: int | None = None

    @property
    def reads_only(self) -> bool:
        return self.kind in (Kind.SELECT, Kind.SHOW)


class _Token(NamedTuple):
    word: bytes
    """Upper case; `'` stands for literals and quoted names."""
    match: "re.Match[bytes]"
    depth: int


def _tokens(sql: bytes) -> Iterator[_Token]:
    depth = 0
    for match in _TOKEN.finditer(sql):
        if other := match.group("other"):
            depth += (other in b"([{") - (other in b")]}")
            yield _Token(other, match, depth)
        elif word := match.group("word"):
            yield _Token(word.upper(), match, depth)
        elif match.group("quoted") or match.group("number"):
            yield _Token(b"'", match, depth)


def classify(sql: bytes) -> Statement:
    """What kind of statement this is. Raises ClickHouseError for several statements and for files on the server."""
    tokens = _tokens(sql)
    first = next((t for t in tokens if t.word != b"("), None)
    if first is None:
        raise errors.syntax("empty query")
    if first.word == b"INSERT":
        return _insert(sql, tokens)
    if first.word in (b"SET", b"USE"):
        raise errors.unsupported("SET or USE: sessions are not kept; give settings and the database with each request")
    if first.word == b"CREATE" and next((t.word for t in tokens), b"") == b"TEMPORARY":
        raise errors.unsupported("CREATE TEMPORARY TABLE: sessions are not kept")
    kind = Kind.SELECT if first.word in _SELECTS else Kind.SHOW if first.word in _SHOWS else Kind.OTHER
    return Statement(kind, _format_at_the_end(tokens))


def _insert(sql: bytes, tokens: Iterator[_Token]) -> Statement:
    previous: _Token | None = None
    for token in tokens:
        if previous is not None and previous.word == b"FORMAT" and token.depth == 0 and token.match["word"]:
            behind = _REST_OF_LINE.match(sql, token.match.end())
            assert behind is not None
            name, head = token.match.group().decode(), sql[: previous.match.start()]
            return Statement(Kind.INSERT, name, head, behind.end())
        if token.depth == 0 and token.word == b"VALUES":
            return Statement(Kind.INSERT, "Values", sql[: token.match.start()], token.match.end())
        if token.depth == 0 and token.word in (b"SELECT", b"WITH"):
            return Statement(Kind.OTHER, _format_at_the_end(tokens))
        if token.word == b"INFILE":
            raise errors.unsupported("INSERT … FROM INFILE over HTTP")
        previous = token
    return Statement(Kind.INSERT, None, sql)


class Target(NamedTuple):
    """Where an INSERT goes: table as written, its column list without brackets ("" for all), and what follows."""

    table: str
    columns: str
    rest: str


def target(head: bytes) -> Target | None:
    """Of an INSERT without format and data (`Statement.head`); None for a table function."""
    tokens = [t for t in _tokens(head) if t.word != b";"]
    at = 2 + (len(tokens) > 2 and tokens[2].word == b"TABLE")
    if len(tokens) <= at or tokens[at].word == b"FUNCTION":
        return None
    end = at + 1
    while end + 1 < len(tokens) and tokens[end].word == b".":
        end += 2
    table = head[tokens[at].match.start() : tokens[end - 1].match.end()]
    after = end
    if end < len(tokens) and tokens[end].word == b"(":
        after = next((i for i in range(end, len(tokens)) if tokens[i].word == b")" and tokens[i].depth == 0), end)
        columns = head[tokens[end].match.end() : tokens[after].match.start()]
        after += 1
    else:
        columns = b""
    rest = head[tokens[after].match.start() : tokens[-1].match.end()] if after < len(tokens) else b""
    return Target(table.decode(), columns.decode().strip(), rest.decode())


def _format_at_the_end(tokens: Iterator[_Token]) -> str | None:
    previous, found, ended = b"", None, False
    for token in tokens:
        if ended:
            raise errors.syntax("several statements in one query are not allowed")
        if token.word == b"OUTFILE" and previous == b"INTO":
            raise errors.unsupported("INTO OUTFILE over HTTP")
        if previous == b"FORMAT" and token.depth == 0 and token.match["word"]:
            found = token.match.group().decode()
        ended = token.word == b";" and token.depth == 0
        previous = token.word
    return found


def of_reader(canonical: bytes) -> Statement:
    """Of a reader's statement as ClickHouse's own parser understood and wrote it (formatQuerySingleLine).

    In that form there is one statement, no comment, one way to quote, and keywords are upper case; so tokens decide
    nothing here that the parser has not decided. Raises ClickHouseError for all that is not reading, and for INTO
    OUTFILE, which chdb executes as a client would, without asking grants.
    """
    tokens = _tokens(canonical)
    first = next((t for t in tokens if t.word != b"("), None)
    if first is None or first.word not in _SELECTS | _SHOWS:
        raise errors.readonly("Cannot execute query in readonly mode")
    kind = Kind.SELECT if first.word in _SELECTS else Kind.SHOW
    return Statement(kind, _format_at_the_end(tokens))
