"""SQL files to statements."""

import re
from collections.abc import Mapping
from typing import Final

_TOKEN: Final = re.compile(
    r"(?P<text>'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.)*\"|`(?:[^`\\]|\\.)*`)"
    r"|(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<end>;)|(?P<rest>[^'\"`;/-]+|.)",
    re.DOTALL,
)
_PIECE: Final = re.compile(r"'(?:[^'\\]|\\.|'')*'|[(),]|[^'(),]+", re.DOTALL)
_HOLE: Final = re.compile(r"\$\{(\w+)\}")


def split(sql: str) -> list[str]:
    """Statements of a file, without comments. A semicolon in a string, a name or a comment ends nothing."""
    statements, current = [], ""
    for token in _TOKEN.finditer(sql):
        if token["end"]:
            statements.append(current.strip())
            current = ""
        elif token["comment"]:
            current += " "
        else:
            current += token.group()
    return [s for s in (*statements, current.strip()) if s]


def items(body: str) -> list[str]:
    """The definitions between the parentheses of a CREATE TABLE; `body` begins behind the opening one."""
    found, current, depth = [], "", 0
    for token in _PIECE.finditer(body):
        piece = token.group()
        depth += {"(": 1, ")": -1}.get(piece, 0)
        if depth < 0:
            break
        if piece == "," and not depth:
            found.append(current.strip())
            current = ""
        else:
            current += piece
    return [*found, current.strip()]


def fill(statement: str, values: Mapping[str, str]) -> str:
    """Put values into `${name}`. Raises KeyError for a name without a value."""
    return _HOLE.sub(lambda hole: values[hole[1]], statement)
