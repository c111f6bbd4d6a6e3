"""How windows are made: the settings that travel in band as `settings/aggregate`, and their language.

    window_s: 60        length of a window; must divide a day, so that hours and days are made of whole windows
    grace_s: 5          how long after its end a window waits for what is still under way
    late_s: 10          how long what comes after that is collected before it is written
    early_s: null       write what windows hold every so often before they end; null: do not
    sketch: true        keep a quantile sketch of each window
    groups: [role, site, model, firmware]   labels of devices by which groups are made; role is the registry's

All keys may be left out; these are the defaults.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from runtime.checking.checker import Checker, checked, json_tree, yaml_tree
from runtime.checking.tree import Node
from schemas.aggregates import DEVICE
from schemas.topics import is_name

DAY_S: Final = 86_400
MAX_GROUPS: Final = 8


@dataclass(frozen=True, slots=True)
class Windowing:
    """See above."""

    window_s: int = 60
    grace_s: int = 5
    late_s: int = 10
    early_s: int | None = None
    sketch: bool = True
    groups: tuple[str, ...] = ("role", "site", "model", "firmware")

    def plain(self) -> dict[str, Any]:
        return asdict(self) | {"groups": list(self.groups)}

    def encode(self) -> bytes:
        """Value of the control record: the same bytes for equal settings."""
        return orjson.dumps(self.plain(), option=orjson.OPT_SORT_KEYS)

    def makes_other_windows_than(self, other: "Windowing") -> bool:
        """Whether open windows of `other` cannot go on under these settings."""
        return (self.window_s, self.grace_s, self.sketch) != (other.window_s, other.grace_s, other.sketch)


def check(text: str, source: str) -> Windowing:
    """The settings that YAML describes. `source` names the text in mistakes. Raises runtime.checking's Mistakes."""
    checker = _Checker()
    return checked(yaml_tree(text), checker.windowing, checker, source)


def decode(value: bytes) -> Windowing:
    """Those of a control record, as Windowing.encode wrote it. Raises Mistakes."""
    checker = _Checker()
    return checked(json_tree(value), checker.windowing, checker, "settings/aggregate")


class _Checker(Checker):
    """The language of windows."""

    def windowing(self, root: Node) -> Windowing:
        keys: dict[str, Any] = {
            "window_s": self.window,
            "grace_s": self.whole(0, DAY_S),
            "late_s": self.whole(1, DAY_S),
            "early_s": self.early,
            "sketch": self.flag,
            "groups": self.groups,
        }
        found = self.entries(root, "the settings of windows", keys)
        given: dict[str, Any] = {key: keys[key](key, node) for key, node in found.items()}
        return Windowing(**given) if not self.mistakes else Windowing()

    def window(self, what: str, node: Node) -> int | None:
        found = self.whole(1, DAY_S)(what, node)
        if found is not None and DAY_S % found:
            near = min((d for d in range(1, DAY_S + 1) if not DAY_S % d), key=lambda d: abs(d - found))
            self.wrong(node.line, f"{what}: {found} does not divide a day ({DAY_S}); {near} does")
        return found

    def early(self, what: str, node: Node) -> int | None:
        return None if node.kind == "scalar" and node.value is None else self.whole(1, DAY_S)(what, node)

    def flag(self, what: str, node: Node) -> bool:
        if not isinstance(node.value, bool):
            self.wrong(node.line, f"{what} must be true or false, not {node.shown}")
        return node.value is True

    def groups(self, what: str, node: Node) -> tuple[str, ...]:
        if node.kind != "list":
            self.wrong(node.line, f"{what} must be a list of labels, not {node.shown}")
            return ()
        if len(node.value) > MAX_GROUPS:
            self.wrong(node.line, f"{what}: more than {MAX_GROUPS} labels")
        found: list[str] = []
        for item in node.value:
            text = item.value if item.kind == "scalar" else None
            if not isinstance(text, str) or not is_name(text):
                self.wrong(item.line, f"{what}: {item.shown} is not a label: names must match [A-Za-z0-9_.-]{{1,64}}")
            elif text == DEVICE:
                self.wrong(item.line, f"{what}: {text!r} is what rows of single devices are called")
            elif text in found:
                self.wrong(item.line, f"{what}: {text!r} is given twice")
            else:
                found.append(text)
        return tuple(found)
