"""What a database must hold, as its migrations say, and what of that is missing. Pure.

Migrations are statements that may run again; so what is missing is restored by the statements that made it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from sinks.core.statements import items, split

Kind = Literal["table", "view", "column", "index", "projection"]

_TABLE: Final = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)\s*\(")
_VIEW: Final = re.compile(r"CREATE (?:OR REPLACE VIEW|MATERIALIZED VIEW IF NOT EXISTS) (\w+)")
_ALTER: Final = re.compile(r"ALTER TABLE (\w+) ")
_ADD: Final = re.compile(r"ALTER TABLE (\w+) ADD (COLUMN|INDEX|PROJECTION) IF NOT EXISTS (\w+)")
_PART: Final = re.compile(r"(?:(INDEX|PROJECTION)\s+)?(\w+)")


@dataclass(frozen=True, slots=True, order=True)
class Missing:
    """A table or view, or with `part` a column, index or projection of a table."""

    kind: Kind
    table: str
    part: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.table}" + (f".{self.part}" if self.part else "")


@dataclass(slots=True)
class Schema:
    """`tables`: for each the statements that make it; `parts`: for each column, index and projection of it the one that
    adds it alone; `views`: for each, materialized ones too, the last definition."""

    tables: dict[str, list[str]] = field(default_factory=dict)
    parts: dict[Missing, str] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, files: Iterable[str]) -> "Schema":
        """The schema that these SQL files, applied in order, make."""
        found = cls()
        for statement in (statement for sql in files for statement in split(sql)):
            found._take(statement)
        return found

    def _take(self, statement: str) -> None:
        if table := _TABLE.match(statement):
            self.tables[table[1]] = [statement]
            for item in items(statement[table.end() :]):
                self._take_part(table[1], item)
        elif view := _VIEW.match(statement):
            self.views[view[1]] = statement
        elif alter := _ALTER.match(statement):
            self.tables.setdefault(alter[1], []).append(statement)
            if added := _ADD.match(statement):
                self.parts[Missing(_kind(added[2]), added[1], added[3])] = statement

    def _take_part(self, table: str, item: str) -> None:
        part = _PART.match(item)
        assert part is not None
        kind = part[1] or "COLUMN"
        definition = item.removeprefix(kind).strip()
        self.parts[Missing(_kind(kind), table, part[2])] = f"ALTER TABLE {table} ADD {kind} IF NOT EXISTS {definition}"

    def missing(self, found: "Found") -> list[Missing]:
        """What is not in the database. Of a table that is missing its parts are not named."""
        tables = [Missing("table", name) for name in self.tables if name not in found.tables]
        views = [Missing("view", name) for name in self.views if name not in found.tables]
        there = set(self.tables) & found.tables
        parts = [
            part for part in self.parts if part.table in there and part.part not in found.parts[part.kind, part.table]
        ]
        return [*tables, *parts, *views]

    def restore(self, missing: Missing) -> list[str]:
        """The statements that make it again."""
        if missing.kind == "table":
            return self.tables[missing.table]
        return [self.views[missing.table] if missing.kind == "view" else self.parts[missing]]


@dataclass(frozen=True, slots=True)
class Found:
    """What a database holds: names of tables and views, and by kind and table the names of its parts."""

    tables: set[str]
    parts: Mapping[tuple[Kind, str], set[str]]


def _kind(word: str) -> Kind:
    kinds: dict[str, Kind] = {"COLUMN": "column", "INDEX": "index", "PROJECTION": "projection"}
    return kinds[word]
