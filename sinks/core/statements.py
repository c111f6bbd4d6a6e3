"""SQL files to statements."""

import re
from collections.abc import Mapping
from typing import Final

_TOKEN: Final = re.compile(
    r"(?P<text>'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.)*\"|`(?:[^`\\]|\\.)*`)"
    r"|(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<end>;)|(?P<rest>[^'\"`;/-]+|.)",
    re.DOTALL,
)
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


def fill(statement: str, values: Mapping[str, str]) -> str:
    """Put values into `${name}`. Raises KeyError for a name without a value."""
    return _HOLE.sub(lambda hole: values[hole[1]], statement)
