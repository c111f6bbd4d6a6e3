"""Records of a log as ranges, as the sink would make them, for one table. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from runtime.stage.provenance import Decision, Highest, after, judge
from sinks.core.flow import Range
from sinks.core.inserts import Insert
from sinks.core.logs import LOGS, Log
from sinks.core.ranges import Rule
from sinks.core.records import Arrival, Entry

RANGE_ROWS: Final = 50_000
RANGE_BYTES: Final = 16 << 20
_RULE: Final = Rule(RANGE_ROWS, RANGE_BYTES, 0, 0)
"""Tokens must name a rule; nobody else cuts by this one."""


def log_of(table: str) -> Log | None:
    """The log that a table can be rebuilt from; None: of none."""
    return next((log for log in LOGS.values() if table in log.tables), None)


def ranges(log: Log, epoch: int, partition: int, highest: Highest, records: Iterable[Arrival]) -> Iterator[Range]:
    """The records after `highest`, repeats left out, in pieces of so many rows or bytes. Raises RefusedError for gaps
    and broken records."""
    where = f"{log.topic}[{partition}]"
    read = log.reader(epoch, where)
    held: list[Entry] = []
    rows = size = 0
    for record in records:
        entry = read(record)
        if judge(highest, entry.origin, f"{where} offset {record.offset}") is Decision.DROP:
            continue
        highest = after(entry.origin)
        held.append(entry)
        rows, size = rows + entry.rows, size + len(entry.value)
        if rows >= RANGE_ROWS or size >= RANGE_BYTES:
            yield _range(log, epoch, partition, held, highest, size)
            held, rows, size = [], 0, 0
    if held:
        yield _range(log, epoch, partition, held, highest, size)


def _range(log: Log, epoch: int, partition: int, held: list[Entry], highest: Highest, size: int) -> Range:
    first, end = held[0].offset, held[-1].offset + 1
    return Range(log.topic, epoch, partition, first, end, _RULE, tuple(held), highest, size, check=False)


def inserts(log: Log, part: Range, table: str, into: str) -> Iterator[Insert]:
    """What the sink would insert into `table`, for the table `into`; under tokens that the sink never uses."""
    for insert in log.plan(part):
        if insert.table == table:
            yield replace(insert, table=into, token=f"rebuild/{insert.token}")
