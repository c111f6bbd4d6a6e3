"""YAML or JSON as a small tree whose every node knows its line, so that each mistake can be pointed at."""

import re
from dataclasses import dataclass
from typing import Any, Final

import yaml

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?").fullmatch
MAX_NODES: Final = 100_000
"""A policy of that size is a mistake; YAML aliases can make one out of a few lines."""


@dataclass(frozen=True, slots=True)
class Node:
    """`value` is a scalar, a list of Nodes, or a list of (key, line, Node) with kind "map"."""

    kind: str
    value: Any
    line: int

    @property
    def shown(self) -> str:
        return {"map": "a mapping", "list": "a list"}.get(self.kind) or repr(self.value)[:60]


class Broken(Exception):
    """Text that is no YAML at all."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def from_yaml(text: str) -> Node:
    """Raises Broken. Safe: no tags beyond plain YAML are understood."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        return Node("scalar", None, 1) if root is None else _Builder().node(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Broken(mark.line + 1 if mark else 1, f"not valid YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise Broken(1, "nested too deep, or an alias that contains itself") from None
    except yaml.YAMLError as error:
        raise Broken(1, f"not valid YAML: {str(error)[:200]}") from None


class _Builder:
    def __init__(self) -> None:
        self.loader = yaml.SafeLoader("")
        self.left = MAX_NODES

    def node(self, found: yaml.Node) -> Node:
        line = found.start_mark.line + 1
        self.left -= 1
        if self.left < 0:
            raise Broken(line, f"more than {MAX_NODES} nodes")
        if isinstance(found, yaml.MappingNode):
            return Node("map", [(self._key(k), k.start_mark.line + 1, self.node(v)) for k, v in found.value], line)
        if isinstance(found, yaml.SequenceNode):
            return Node("list", [self.node(item) for item in found.value], line)
        return Node("scalar", self._scalar(found), line)

    def _key(self, found: yaml.Node) -> str:
        return str(found.value) if isinstance(found, yaml.ScalarNode) else "?"

    def _scalar(self, found: yaml.Node) -> Any:
        # YAML 1.1 reads 1e5 as text; who writes it means the number
        if found.tag.endswith(":str") and getattr(found, "style", None) is None and _NUMBER(found.value):
            return float(found.value)
        try:
            return self.loader.construct_object(found, deep=True)
        except (ValueError, KeyError) as error:
            raise Broken(
                found.start_mark.line + 1, f"{found.value[:60]!r} is no {found.tag.rsplit(':')[-1]}: {error}"
            ) from None


def from_plain(value: Any) -> Node:
    """Parsed JSON; its lines are all 1."""
    if isinstance(value, dict):
        return Node("map", [(str(k), 1, from_plain(v)) for k, v in value.items()], 1)
    if isinstance(value, list):
        return Node("list", [from_plain(item) for item in value], 1)
    return Node("scalar", value, 1)
