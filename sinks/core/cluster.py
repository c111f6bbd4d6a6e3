"""A ClickHouse cluster: what its nodes must have, and how a migration's statements are rewritten for each. Pure.

Every node has two databases: NAME_local with its own tables, NAME with a Distributed table over each of them and all
views. What is asked and written goes to NAME, on any node. A range of the sink is of one partition of telemetry.raw and
rows go to the shard of their partition: an insert is one insert on one shard, which remembers its token.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_ENGINE: Final = re.compile(r"\bENGINE = (Replacing)?MergeTree\b(?:\((\w+)\))?")
_PATH: Final = "'/clickhouse/tables/{database}/{table}/{shard}', '{replica}'"
_SUBQUERY: Final = re.compile(r"\b((?:NOT )?IN)(?=\s*\(SELECT\b)")
_VIEW: Final = re.compile(r"CREATE OR REPLACE VIEW\b")
_TABLE: Final = re.compile(r"(?:CREATE TABLE IF NOT EXISTS|ALTER TABLE) (\w+)")
SHARDED_BY: Final = "raw_partition"


@dataclass(frozen=True, slots=True)
class Node:
    """A row of system.clusters, and the macros `shard` and `replica` that the node itself has; "" if it has none."""

    shard: int
    host: str
    forwards: bool
    """internal_replication: whoever inserts writes to one replica, which tells the others."""
    shard_macro: str = ""
    replica_macro: str = ""

    @property
    def replicated(self) -> bool:
        return bool(self.shard_macro and self.replica_macro)


def problems(nodes: Sequence[Node]) -> list[str]:
    """Everything because of which rows would be lost or duplicated; empty when the cluster can be used."""
    found = []
    named = [node for node in nodes if node.replicated]
    if named and len(named) < len(nodes):
        without = ", ".join(node.host for node in nodes if not node.replicated)
        found.append(f"{without}: macros `shard` and `replica` are missing, other nodes have them")
    replicas = Counter(node.shard for node in nodes)
    for shard, count in sorted(replicas.items()):
        of = [node for node in nodes if node.shard == shard]
        if count > 1 and not named:
            found.append(f"shard {shard} has {count} replicas, but its nodes have no macros `shard` and `replica`")
        if count > 1 and not all(node.forwards for node in of):
            found.append(f"shard {shard}: internal_replication must be true, or each row is written {count} times")
        if len({node.shard_macro for node in of}) > 1:
            said = ", ".join(f"{node.host} {node.shard_macro!r}" for node in of)
            found.append(f"shard {shard}: its replicas must have one macro `shard`, they have {said}")
    for (shard_macro, replica_macro), count in Counter((n.shard_macro, n.replica_macro) for n in named).items():
        if count > 1:
            found.append(f"{count} nodes have the macros shard {shard_macro!r} and replica {replica_macro!r}")
    by_macro: dict[str, set[int]] = {}
    for node in named:
        by_macro.setdefault(node.shard_macro, set()).add(node.shard)
    for macro, shards in by_macro.items():
        if len(shards) > 1:
            found.append(f"shards {', '.join(map(str, sorted(shards)))} have one macro `shard`: {macro!r}")
    return found


def is_view(statement: str) -> bool:
    """Whether a statement belongs into NAME; all others are about the node's own tables."""
    return _VIEW.match(statement) is not None


def table_of(statement: str) -> str | None:
    """The table that a statement makes or changes."""
    found = _TABLE.match(statement)
    return found[1] if found else None


def view(statement: str) -> str:
    """A view over shards: what its subqueries find is sent to all of them."""
    return _SUBQUERY.sub(r"GLOBAL \1", statement)


def replicated(statement: str) -> str:
    """The statement with engines whose tables all replicas of a shard share."""

    def engine(found: re.Match[str]) -> str:
        kind, version = found[1] or "", f", {found[2]}" if found[2] else ""
        return f"ENGINE = Replicated{kind}MergeTree({_PATH}{version})"

    return _ENGINE.sub(engine, statement)


def distributed(cluster: str, over: str, table: str, columns: Iterable[str]) -> str:
    """The table over all shards' `over`.`table`. One without the column raw_partition can only be read."""
    key = f", {SHARDED_BY}" if SHARDED_BY in columns else ""
    return (
        f"CREATE OR REPLACE TABLE `{table}` AS `{over}`.`{table}`"
        f" ENGINE = Distributed('{cluster}', '{over}', '{table}'{key})"
    )
