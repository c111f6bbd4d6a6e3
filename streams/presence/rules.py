"""Rules of presence: written in YAML, checked with every mistake at once, published as JSON under `settings/presence`.

    rules = check(text, "presence.yaml")    # raises Mistakes with every mistake and its line
    rules.encode()                          # value of the control record
    decode(value)                           # the same rules again

default.yaml explains each entry, which holds before any are published.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import orjson

from runtime.checking.checker import Checker, checked, json_tree, yaml_tree
from runtime.checking.tree import Node

_MOST_S: Final = 400 * 86_400
_MOST_CHANGES: Final = 500
_MOST_FACTOR: Final = 100.0


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules in force; times in milliseconds."""

    factor: float = 3.0
    least_ms: int = 30_000
    most_ms: int = 7 * 86_400_000
    unknown_ms: int = 26 * 3_600_000
    standstill_ms: int = 10_000
    changes: int = 6
    within_ms: int = 3_600_000
    settle_ms: int = 5_000

    def plain(self) -> dict[str, Any]:
        """As YAML has it."""
        return {
            "silence": {
                "factor": self.factor,
                "least": _written(self.least_ms),
                "most": _written(self.most_ms),
                "unknown": _written(self.unknown_ms),
                "standstill": _written(self.standstill_ms),
            },
            "flaps": {"changes": self.changes, "within": _written(self.within_ms)},
            "settle": _written(self.settle_ms),
        }

    def encode(self) -> bytes:
        """Value of the control record: the same bytes for equal rules."""
        return orjson.dumps(self.plain(), option=orjson.OPT_SORT_KEYS)


def check(text: str, source: str) -> Rules:
    """The rules that YAML describes. `source` names the text in mistakes. Raises Mistakes."""
    checker = _Checker()
    return checked(yaml_tree(text), checker.rules, checker, source)


def decode(value: bytes) -> Rules:
    """The rules of a control record, as Rules.encode wrote them. Raises Mistakes."""
    checker = _Checker()
    return checked(json_tree(value), checker.rules, checker, "presence")


def shipped() -> str:
    """YAML of the rules that come with Millrace."""
    return resources.files("streams.presence").joinpath("default.yaml").read_text(encoding="utf-8")


@cache
def default() -> Rules:
    """What is in force until rules are published."""
    return check(shipped(), "default.yaml")


class _Checker(Checker):
    """The language of presence."""

    def rules(self, root: Node) -> Rules:
        usual = Rules()
        top = self.entries(root, "the rules", ("silence", "flaps", "settle"))
        silence = self._section(top, "silence", ("factor", "least", "most", "unknown", "standstill"))
        flaps = self._section(top, "flaps", ("changes", "within"))
        changes = self.whole(1, _MOST_CHANGES)("changes", flaps["changes"]) if "changes" in flaps else None
        found = Rules(
            self._factor(silence, usual.factor),
            self._duration(silence, "least", usual.least_ms, 1),
            self._duration(silence, "most", usual.most_ms, 1),
            self._duration(silence, "unknown", usual.unknown_ms, 1),
            self._duration(silence, "standstill", usual.standstill_ms, 2),
            usual.changes if changes is None else changes,
            self._duration(flaps, "within", usual.within_ms, 1),
            self._duration(top, "settle", usual.settle_ms, 0),
        )
        self._agree(found, root.line, silence)
        if found.changes * 1000 > found.within_ms:
            at = flaps["changes"].line if "changes" in flaps else root.line
            within = _written(found.within_ms)
            self.wrong(at, f"changes is {found.changes} within {within}, which is more than one a second")
        return found

    def _section(self, top: dict[str, Node], name: str, known: tuple[str, ...]) -> dict[str, Node]:
        return self.entries(top[name], name, known) if name in top else {}

    def _factor(self, silence: dict[str, Node], otherwise: float) -> float:
        if "factor" not in silence:
            return otherwise
        found = self.number("factor", silence["factor"])
        if found is not None and not 1 <= found <= _MOST_FACTOR:
            self.wrong(silence["factor"].line, f"factor must be from 1 to {_MOST_FACTOR:g}, not {found:g}")
            return otherwise
        return otherwise if found is None else found

    def _duration(self, section: dict[str, Node], name: str, otherwise_ms: int, least_s: int) -> int:
        if name not in section:
            return otherwise_ms
        node = section[name]
        found = self.seconds(node)
        if found is None:
            self.wrong(node.line, f"{name} must be a duration such as 30s, 15m, 26h or 7d, not {node.shown}")
        elif not least_s <= found <= _MOST_S:
            self.wrong(node.line, f"{name} must be from {least_s}s to {_MOST_S // 86_400}d, not {node.shown}")
        else:
            return found * 1000
        return otherwise_ms

    def _agree(self, found: Rules, line: int, silence: dict[str, Node]) -> None:
        """Entries that contradict each other."""
        for name, below, above in (
            ("least", found.least_ms, found.most_ms),
            ("standstill", found.standstill_ms, found.least_ms),
        ):
            if below > above:
                bound = {"least": "most", "standstill": "least"}[name]
                at = silence[name].line if name in silence else line
                self.wrong(at, f"{name} is {_written(below)}, above {bound}, which is {_written(above)}")


def _written(time_ms: int) -> str:
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        if time_ms and time_ms % size == 0:
            return f"{time_ms // size}{unit}"
    return f"{time_ms // 1000}s"
