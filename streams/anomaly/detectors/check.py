"""Checks detector settings and names every mistake with its line."""

import re
from collections.abc import Mapping, Set
from itertools import pairwise
from typing import Any, Final

from runtime.checking.checker import UNIT_S, UNIT_WORDS, Checker, Mistakes, checked, hint, json_tree, yaml_tree
from runtime.checking.tree import Node
from schemas.topics import is_name
from schemas.vocabulary import Severity
from streams.anomaly.detectors.model import (
    ALL,
    PARAMETERS,
    SEVERITIES,
    SHIFT,
    Detector,
    Detectors,
    Form,
    Incidents,
    Kind,
    Rule,
    Shift,
)

DetectorError = Mistakes

MAX_RULES: Final = 500
MAX_SHIFTS: Final = 8
MAX_LIMITS: Final = 4
"""Detectors of kind limits in one rule; of every other kind a rule has one."""
_DEFAULTS: Final[Mapping[Kind, Mapping[str, float]]] = {
    Kind.RESIDUAL: {"sensitivity": 1.0},
    Kind.STUCK: {"times": 4.0},
    Kind.SILENCE: {"times": 3.0},
}
"""What holds for a detector that is given nothing."""
_SHIFT_DEVICES: Final = 5
_SHIFT_SHARE: Final = 0.3
_PATTERN = re.compile(r"\*|[A-Za-z0-9_.-]{1,250}(\.\*)?").fullmatch
_RATE = re.compile(r"(\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*/\s*([a-z]+)").fullmatch
_SHARE = re.compile(r"(\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*%").fullmatch
_SEVERITY_NAMES: Final = {severity.name.lower(): severity for severity in Severity}


def check(text: str, source: str) -> Detectors:
    """The settings that YAML describes. `source` names the text in mistakes. Raises DetectorError."""
    checker = _Checker()
    return checked(yaml_tree(text), checker.detectors, checker, source)


def decode(value: bytes) -> Detectors:
    """The settings of a control record, as Detectors.encode wrote them. Raises DetectorError."""
    checker = _Checker()
    return checked(json_tree(value), checker.detectors, checker, "detectors")


class _Checker(Checker):
    """The language of detectors."""

    def detectors(self, root: Node) -> Detectors:
        top = self.entries(root, "the settings", ("rules", "shifts", "incidents"))
        if root.kind == "map" and "rules" not in top:
            self.wrong(root.line, "'rules' is missing")
        rules = self._list(top.get("rules"), "rules", MAX_RULES)
        shifts = [self.shift(f"shift {n}", node) for n, node in self._list(top.get("shifts"), "shifts", MAX_SHIFTS)]
        self._once([(shift.group, node) for shift, node in zip(shifts, self._nodes(top.get("shifts")), strict=True)])
        return Detectors(
            tuple(self.rule(f"rule {n}", node) for n, node in rules),
            tuple(shifts),
            self.incidents(top["incidents"]) if "incidents" in top else Incidents(),
        )

    def _nodes(self, node: Node | None) -> list[Node]:
        return list(node.value) if node is not None and node.kind == "list" else []

    def _list(self, node: Node | None, what: str, most: int) -> list[tuple[int, Node]]:
        """The items with their numbers, from 1."""
        if node is not None and node.kind != "list":
            self.wrong(node.line, f"{what} must be a list, not {node.shown}")
        found = self._nodes(node)
        if node is not None and len(found) > most:
            self.wrong(node.line, f"more than {most} {what}")
        return list(enumerate(found, 1))

    def _once(self, named: list[tuple[str, Node]]) -> None:
        seen: set[str] = set()
        for name, node in named:
            if name and name in seen:
                self.wrong(node.line, f"{name!r} is given twice")
            seen.add(name)

    # --- rules

    def rule(self, what: str, node: Node) -> Rule:
        found = self.entries(node, what, ("metric", "channel", "role", "labels", "detectors"))
        if node.kind == "map" and "detectors" not in found:
            self.wrong(node.line, f"{what}: 'detectors' is missing")
        nodes = self._list(found.get("detectors"), f"{what}: detectors", 2 * MAX_LIMITS)
        detectors = [one for _, item in nodes if (one := self.detector(what, item)) is not None]
        self._composed(what, node, detectors)
        return Rule(
            self.pattern(f"{what}: metric", found.get("metric")),
            self.pattern(f"{what}: channel", found.get("channel")),
            self.word(f"{what}: role", found["role"]) if "role" in found else None,
            self.labels(f"{what}: labels", found["labels"]) if "labels" in found else {},
            tuple(detectors),
        )

    def _composed(self, what: str, node: Node, detectors: list[Detector]) -> None:
        """Whether these can stand in one rule."""
        for kind in Kind:
            most = MAX_LIMITS if kind is Kind.LIMITS else 1
            if sum(one.kind is kind for one in detectors) > most:
                self.wrong(node.line, f"{what}: more than {most} of kind {kind}")
        for name in sorted({one.name for one in detectors if sum(o.name == one.name for o in detectors) > 1}):
            self.wrong(node.line, f"{what}: two detectors are called {name!r}; give one a `name`")

    def pattern(self, what: str, node: Node | None) -> str:
        text = "*" if node is None else node.value if isinstance(node.value, str) else None
        if text is None or not _PATTERN(text):
            self.wrong(node.line if node else 1, f"{what} must be a name, 'name.*' or '*', not {_shown(node)}")
        return text or "*"

    def word(self, what: str, node: Node) -> str:
        if node.kind != "scalar" or not isinstance(node.value, str) or not is_name(node.value):
            self.wrong(node.line, f"{what} must match [A-Za-z0-9_.-]{{1,64}}, not {node.shown}")
            return ""
        return node.value

    def labels(self, what: str, node: Node) -> dict[str, str]:
        found = {}
        for name, value in self.entries(node, what).items():
            if value.kind != "scalar" or value.value is None:
                self.wrong(value.line, f"{what}: {name} must be a text, not {value.shown}")
            found[name] = str(value.value)
        return found

    def detector(self, what: str, node: Node) -> Detector | None:
        """`residual`, or `{residual: {…}}`."""
        if node.kind == "scalar":
            name, line, body = node.value, node.line, None
        elif node.kind == "map" and len(node.value) == 1:
            name, line, body = node.value[0]
        else:
            self.wrong(node.line, f"{what}: a detector is a kind, or one kind with its settings, not {node.shown}")
            return None
        if name not in list(Kind):
            self.wrong(
                line, f"{what}: there is no detector {str(name)[:60]!r}{hint(str(name), [str(k) for k in Kind])}"
            )
            return None
        return self._settings(f"{what}: {name}", Kind(name), line, body)

    def _settings(self, what: str, kind: Kind, line: int, body: Node | None) -> Detector:
        forms = PARAMETERS[kind]
        empty = body is None or (body.kind == "scalar" and body.value is None)
        found = {} if empty or body is None else self.entries(body, what, (*forms, "name", "severity"))
        numbers = {key: self.parameter(f"{what}: {key}", forms[key], found[key]) for key in forms if key in found}
        given = {key: value for key, value in numbers.items() if value is not None} or dict(_DEFAULTS.get(kind, {}))
        self._adds_up(what, kind, line, given, found.keys())
        name = self.word(f"{what}: name", found["name"]) if "name" in found else str(kind)
        if name == SHIFT:
            self.wrong(line, f"{what}: the name {SHIFT!r} is taken")
        return Detector(kind, name, self.severity(what, found.get("severity"), SEVERITIES[kind]), given)

    def _adds_up(self, what: str, kind: Kind, line: int, given: Mapping[str, float], written: Set[str]) -> None:
        """`given`: what is right of what is `written`."""
        if kind is Kind.RATE and "max" not in written:
            self.wrong(line, f"{what}: 'max' is missing")
        for key, least, most in (("sensitivity", 0.01, 100.0), ("times", 1.0, 1000.0), ("max", 1e-12, 1e30)):
            if key in given and not least <= given[key] <= most:
                self.wrong(line, f"{what}: {key} must be from {least:g} to {most:g}, not {given[key]:g}")
        if kind is Kind.LIMITS:
            self._limits(what, line, given, written)

    def _limits(self, what: str, line: int, given: Mapping[str, float], written: Set[str]) -> None:
        if not written & {"high", "low"}:
            self.wrong(line, f"{what}: 'high' or 'low' is missing")
        for key, other in (("high_clear", "high"), ("low_clear", "low")):
            if key in written and other not in written:
                self.wrong(line, f"{what}: {key!r} means nothing without {other!r}")
        order = [(key, given[key]) for key in ("low", "low_clear", "high_clear", "high") if key in given]
        for (one, less), (other, more) in pairwise(order):
            if less > more:
                self.wrong(line, f"{what}: {one} {less:g} is above {other} {more:g}")

    # --- values

    def parameter(self, what: str, form: Form, node: Node) -> float | None:
        if form is Form.NUMBER:
            return self.number(what, node)
        if form is Form.COUNT:
            found = self.whole(2, 1_000_000_000)(what, node)
            return None if found is None else float(found)
        return self.duration(what, node) if form is Form.DURATION else self.per_time(what, node)

    def duration(self, what: str, node: Node) -> float | None:
        found = self.seconds(node)
        if found is None:
            self.wrong(node.line, f"{what} must be like 30s, 15m, 2h or 7d, not {node.shown}")
            return None
        return float(found)

    def per_time(self, what: str, node: Node) -> float | None:
        found = _RATE(node.value) if isinstance(node.value, str) else None
        unit = UNIT_WORDS.get(found[2]) if found else None
        if found is None or unit is None:
            self.wrong(node.line, f"{what} must be like 0.5/s, 5/min or 20/h, not {node.shown}")
            return None
        return float(found[1]) / UNIT_S[unit]

    def severity(self, what: str, node: Node | None, otherwise: Severity) -> Severity:
        if node is None:
            return otherwise
        if node.kind != "scalar" or node.value not in _SEVERITY_NAMES:
            self.wrong(node.line, f"{what}: severity must be one of {', '.join(_SEVERITY_NAMES)}, not {node.shown}")
            return otherwise
        return _SEVERITY_NAMES[node.value]

    # --- shifts and incidents

    def shift(self, what: str, node: Node) -> Shift:
        found = self.entries(node, what, ("group", "devices", "share", "within", "severity"))
        if node.kind == "map" and "group" not in found:
            self.wrong(node.line, f"{what}: 'group' is missing: role, the name of a label, or {ALL}")
        devices = self.whole(2, 1_000_000)(f"{what}: devices", found["devices"]) if "devices" in found else None
        otherwise = 0.0 if "devices" in found else _SHIFT_SHARE
        within = self.duration(f"{what}: within", found["within"]) if "within" in found else None
        if within is not None and not 1 <= within <= 86_400:
            self.wrong(found["within"].line, f"{what}: within must be from 1s to 1d, not {found['within'].shown}")
        return Shift(
            self.word(f"{what}: group", found["group"]) if "group" in found else "",
            devices or _SHIFT_DEVICES,
            self.share(f"{what}: share", found["share"]) if "share" in found else otherwise,
            int(within or 300),
            self.severity(what, found.get("severity"), Severity.CRITICAL),
        )

    def share(self, what: str, node: Node) -> float:
        found = _SHARE(node.value) if isinstance(node.value, str) else None
        if found is None or float(found[1]) > 100:
            self.wrong(node.line, f"{what} must be like 30 %, not {node.shown}")
            return 0.0
        return round(float(found[1]) / 100, 6)

    def incidents(self, node: Node) -> Incidents:
        found = self.entries(node, "incidents", ("quiet", "cool_down"))
        times: dict[str, Any] = {key: self.duration(f"incidents: {key}", value) for key, value in found.items()}
        quiet, cool_down = times.get("quiet"), times.get("cool_down")
        otherwise = Incidents()
        return Incidents(
            otherwise.quiet_s if quiet is None else int(quiet),
            otherwise.cool_down_s if cool_down is None else int(cool_down),
        )


def _shown(node: Node | None) -> str:
    return "nothing" if node is None else node.shown
