"""Walks a tree and notes every mistake with its line; a value that is wrong is replaced by a harmless one, so that the
walk goes on. Who has a language of his own inherits."""

import difflib
import math
import re
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import orjson

from runtime.checking.tree import Broken, Node, from_plain, from_yaml
from schemas.errors import ContractError

T = TypeVar("T")

UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
"""Units of rates and durations, seconds."""
UNIT_WORDS: Final = {"s": "s", "sec": "s", "m": "m", "min": "m", "h": "h", "d": "d"}
"""How they may be written."""
_DURATION = re.compile(r"(\d+)\s*([a-z]+)").fullmatch


class Mistakes(ContractError):
    """Every mistake, one line each: `FILE:LINE: what is wrong`."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class Checker:
    """Notes mistakes while it walks."""

    def __init__(self) -> None:
        self.mistakes: list[tuple[int, str]] = []

    def wrong(self, line: int, text: str) -> None:
        self.mistakes.append((line, text))

    def entries(self, node: Node, what: str, known: Iterable[str] | None = None) -> dict[str, Node]:
        """Keys and values of a mapping; reports keys that are given twice or unknown."""
        if node.kind != "map":
            self.wrong(node.line, f"{what} must be a mapping, not {node.shown}")
            return {}
        found: dict[str, Node] = {}
        for key, line, value in node.value:
            if key in found:
                self.wrong(line, f"{what}: {key!r} is given twice")
            elif known is not None and key not in known:
                self.wrong(line, f"{what}: unknown key {key!r}{hint(key, known)}")
            else:
                found[key] = value
        return found

    def number(self, what: str, node: Node) -> float | None:
        value = node.value if node.kind == "scalar" else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(_float(value)):
            self.wrong(node.line, f"{what} must be a number, not {node.shown}")
            return None
        return float(value)

    def whole(self, low: int, high: int) -> Callable[[str, Node], int | None]:
        def whole(what: str, node: Node) -> int | None:
            value = node.value if node.kind == "scalar" else None
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                self.wrong(node.line, f"{what} must be a whole number from {low} to {high}, not {node.shown}")
                return None
            return value

        return whole

    def seconds(self, node: Node) -> int | None:
        """A duration like 400d, 36h, 15m or 30s; None, and nothing noted, where it is none."""
        found = _DURATION(node.value) if isinstance(node.value, str) else None
        unit = UNIT_WORDS.get(found[2]) if found else None
        if found is None or unit is None or int(found[1][:12]) * UNIT_S[unit] > 10**11:
            return None
        return int(found[1]) * UNIT_S[unit]


def checked(read: Callable[[], Node], walk: Callable[[Node], T], checker: Checker, source: str) -> T:
    """What `walk`, a method of the checker, makes of the tree. Raises Mistakes with `source` before each line."""
    try:
        found = walk(read())
    except Broken as error:
        raise Mistakes([f"{source}:{error.line}: {error}"]) from None
    if checker.mistakes:
        raise Mistakes([f"{source}:{line}: {text}" for line, text in sorted(set(checker.mistakes))])
    return found


def yaml_tree(text: str) -> Callable[[], Node]:
    return lambda: from_yaml(text)


def json_tree(value: bytes) -> Callable[[], Node]:
    def read() -> Node:
        try:
            return from_plain(orjson.loads(value))
        except (orjson.JSONDecodeError, RecursionError) as error:
            raise Broken(1, f"no JSON: {error}") from None

    return read


def hint(word: str, known: Iterable[str]) -> str:
    """What may have been meant."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(known))}"


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
