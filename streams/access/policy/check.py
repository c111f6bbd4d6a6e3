"""Checks a policy and names every mistake with its line."""

import re
from typing import Any, Final

from runtime.checking.checker import UNIT_WORDS, Checker, Mistakes, checked, hint, json_tree, yaml_tree
from runtime.checking.tree import Node
from schemas.topics import is_name
from streams.access.policy.model import (
    MAX_AGE_S,
    MAX_AHEAD_S,
    UNLIMITED,
    MetricRule,
    Policy,
    Rate,
    Role,
)

BRANCHES: Final = {"telemetry": 1, "event": 1, "reply": 1, "config": 0, "control": 2}
"""Names that follow each branch of an uplink topic (schemas.topics)."""
MAX_BYTES: Final = 1 << 40
MAX_ROLES: Final = 1_000
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*([a-z]+)").fullmatch
_METRIC = re.compile(r"\*|[A-Za-z0-9_.-]{1,250}(\.\*)?").fullmatch


PolicyError = Mistakes


def check(text: str, source: str) -> Policy:
    """The policy that YAML describes. `source` names the text in mistakes. Raises PolicyError."""
    checker = _Checker()
    return checked(yaml_tree(text), checker.policy, checker, source)


def decode(value: bytes) -> Policy:
    """The policy of a control record, as Policy.encode wrote it. Raises PolicyError."""
    checker = _Checker()
    return checked(json_tree(value), checker.policy, checker, "policy")


class _Checker(Checker):
    """The language of policies."""

    def policy(self, root: Node) -> Policy:
        top = self.entries(root, "the policy", ("roles", "unknown"))
        roles: dict[str, Role] = {}
        if root.kind == "map" and "roles" not in top:
            self.wrong(root.line, "'roles' is missing")
        elif "roles" in top:
            roles = self.roles(top["roles"])
        return Policy(roles, self.unknown(top.get("unknown"), roles))

    def roles(self, node: Node) -> dict[str, Role]:
        self.entries(node, "roles")
        found: dict[str, Role] = {}
        for name, line, value in node.value if node.kind == "map" else []:
            if not is_name(name):
                self.wrong(line, f"role {name[:80]!r}: names must match [A-Za-z0-9_.-]{{1,64}}")
            found[name] = self.role(name, value)
        if len(found) > MAX_ROLES:
            self.wrong(node.line, f"more than {MAX_ROLES} roles")
        return found

    def unknown(self, node: Node | None, roles: dict[str, Role]) -> str | None:
        if node is None or node.value is None:
            return None
        if node.kind != "scalar" or node.value not in roles:
            self.wrong(node.line, f"unknown: {node.shown} is not a role of this policy; name one, or null to deny")
        return str(node.value)

    def role(self, name: str, node: Node) -> Role:
        what = f"role {name}"
        keys = {
            "publish": self.publish,
            "metrics": self.metrics,
            "rate": self.rate,
            "burst": self.whole(1, 1 << 31),
            "bytes": self.whole(1, MAX_BYTES),
            "max_age": self.duration,
            "max_ahead": self.duration,
        }
        found = self.entries(node, what, keys)
        given: dict[str, Any] = {key: keys[key](f"{what}: {key}", value) for key, value in found.items()}
        if node.kind == "map" and "publish" not in found:
            self.wrong(node.line, f"{what}: 'publish' is missing")
        if "burst" in found and "rate" not in found:
            self.wrong(found["burst"].line, f"{what}: 'burst' means nothing without 'rate'")
        return Role(
            given.get("publish", ()),
            given.get("metrics"),
            given.get("rate"),
            given.get("burst"),
            given.get("bytes"),
            given.get("max_age", MAX_AGE_S),
            given.get("max_ahead", MAX_AHEAD_S),
        )

    def publish(self, what: str, node: Node) -> tuple[str, ...]:
        if node.kind != "list":
            self.wrong(node.line, f"{what} must be a list of topics below d/{{device}}/, not {node.shown}")
            return ()
        return tuple(dict.fromkeys(self.topic(what, item) for item in node.value))

    def topic(self, what: str, node: Node) -> str:
        text = node.value if node.kind == "scalar" and isinstance(node.value, str) else None
        branch, *names = (text or "").split("/")
        if text is None:
            self.wrong(node.line, f"{what}: {node.shown} is not a topic")
        elif branch not in BRANCHES:
            self.wrong(node.line, f"{what}: {text[:80]!r} begins with no branch of an uplink{hint(branch, BRANCHES)}")
        elif len(names) != BRANCHES[branch]:
            shape = "/".join([branch] + ["{name}"] * BRANCHES[branch])
            self.wrong(node.line, f"{what}: {text[:80]!r} has {len(names)} names after the branch; expected {shape}")
        elif any(n != "*" and not is_name(n) for n in names):
            self.wrong(node.line, f"{what}: {text[:80]!r}: names must be * or match [A-Za-z0-9_.-]{{1,64}}")
        return text or ""

    def metrics(self, what: str, node: Node) -> tuple[MetricRule, ...]:
        rules = []
        for pattern, value in self.entries(node, what).items():
            if not _METRIC(pattern):
                self.wrong(value.line, f"{what}: {pattern[:80]!r} is not a metric: expected a name, 'name.*' or '*'")
            rules.append(self.metric(f"{what}: {pattern}", pattern, value))
        return tuple(sorted(rules, key=lambda rule: rule.pattern))

    def metric(self, what: str, pattern: str, node: Node) -> MetricRule:
        if node.kind == "scalar" and node.value == "deny":
            return MetricRule(pattern, deny=True)
        if node.kind == "scalar" and node.value is None:
            return MetricRule(pattern)
        found = self.entries(node, what, ("min", "max", "out_of_range"))
        low, high = (self.number(f"{what}: {k}", found[k]) if k in found else None for k in ("min", "max"))
        if low is not None and high is not None and low > high:
            self.wrong(found["min"].line, f"{what}: min {low:g} is above max {high:g}")
        answer = found.get("out_of_range")
        if answer is not None and answer.value not in ("keep", "refuse"):
            self.wrong(answer.line, f"{what}: out_of_range must be keep or refuse, not {answer.shown}")
        return MetricRule(pattern, False, low, high, answer is not None and answer.value == "refuse")

    def rate(self, what: str, node: Node) -> Rate | None:
        found = _RATE(node.value) if isinstance(node.value, str) else None
        unit = UNIT_WORDS.get(found[2]) if found else None
        if found is None or unit is None or not 1e-3 <= float(found[1]) <= 1e6:
            self.wrong(node.line, f"{what} must be like 10/s, 600/m, 20/h or 5/d, not {node.shown}")
            return None
        return Rate(round(float(found[1]), 6), unit)

    def duration(self, what: str, node: Node) -> int | None:
        if node.value == UNLIMITED:
            return None
        found = self.seconds(node)
        if found is None:
            self.wrong(node.line, f"{what} must be like 400d, 36h, 15m, 30s or {UNLIMITED}, not {node.shown}")
        return found
