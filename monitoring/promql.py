"""Just enough of PromQL to know which metrics an expression asks for, and by which labels."""

import re
from collections.abc import Iterator
from typing import Final

_TOKEN: Final = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    |(?P<range>\[[^\]]*\])
    |(?P<word>[A-Za-z_:][A-Za-z0-9_:]*)
    |(?P<number>\d[\w.+]*)
    |(?P<sign>=~|!~|!=|==|<=|>=|\S)""",
    re.VERBOSE,
)
_LISTS: Final = frozenset(("by", "without", "on", "ignoring", "group_left", "group_right"))
"""Words that a list of labels follows in parentheses."""
_CALLED: Final = ("(", "by", "without")
"""What follows functions and aggregations, and never a metric."""
_WORDS: Final = frozenset(("and", "or", "unless", "bool", "offset", "atan2", "inf", "nan")) | _LISTS
Selector = tuple[str, tuple[tuple[str, str, str], ...]]


def selectors(expression: str) -> list[Selector]:
    """(metric, ((label, operator, value) …)) of each selector, in order; a metric without braces has no matchers."""
    tokens = [(found.lastgroup or "", found.group()) for found in _TOKEN.finditer(expression)]
    return list(_selectors(tokens))


def names(expression: str) -> set[str]:
    """Every metric that an expression asks for."""
    return {name for name, _ in selectors(expression)}


def _selectors(tokens: list[tuple[str, str]]) -> Iterator[Selector]:
    at = 0
    while at < len(tokens):
        kind, text = tokens[at]
        at += 1
        following = tokens[at][1] if at < len(tokens) else ""
        if kind != "word":
            continue
        if text.lower() in _LISTS and following == "(":
            at = _after(tokens, at, ")")
        elif text.lower() not in _WORDS and following.lower() not in _CALLED:
            end = _after(tokens, at, "}") if following == "{" else at
            yield text, tuple(_matchers(tokens[at + 1 : end - 1]))
            at = end


def _after(tokens: list[tuple[str, str]], at: int, closing: str) -> int:
    while at < len(tokens) and tokens[at][1] != closing:
        at += 1
    return at + 1


def _matchers(tokens: list[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    for at, (kind, text) in enumerate(tokens):
        if kind == "word" and at + 2 < len(tokens) and tokens[at + 2][0] == "string":
            yield text, tokens[at + 1][1], tokens[at + 2][1][1:-1]
