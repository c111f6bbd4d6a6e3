"""What the tables in ClickHouse are, for commands that back up, rebuild or correct them: public, unlike sinks/core.

Which topic fills which tables, which table is its ledger, which columns name a row, and the rows that records of a
topic become. Example, the rows of `readings` made of what Kafka holds from offset 0 on:

    source = sources()["telemetry.readings"]
    for part in ranges(source, epoch, partition, START, records):
        for insert in inserts(source, part, "readings", into="readings_rebuilt"):
            tables.insert(insert, check=False)
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from confluent_kafka import Message

from runtime.stage.provenance import START, Decision, Highest, after, judge
from schemas.skips import Skip
from sinks.adapters.kafka import arrival
from sinks.adapters.tables import Tables
from sinks.adapters.targets import refuse_cluster
from sinks.core.flow import Range
from sinks.core.inserts import NAMES, Insert
from sinks.core.logs import LOGS, Ledger, Log
from sinks.core.ranges import Rule
from sinks.core.records import Arrival, Entry
from sinks.orders import reader

__all__ = [
    "ROW_NAMES",
    "START",
    "Arrival",
    "Highest",
    "Insert",
    "Ledger",
    "Log",
    "Range",
    "Tables",
    "arrivals",
    "inserts",
    "ranges",
    "refuse_cluster",
    "source_of",
    "sources",
]

ROW_NAMES: Final[Mapping[str, tuple[str, ...]]] = NAMES
"""By table the columns that name a row."""
RANGE_ROWS: Final = 50_000
RANGE_BYTES: Final = 16 << 20
_RULE: Final = Rule(RANGE_ROWS, RANGE_BYTES, 0, 0)
"""Tokens of inserts name a rule; the sink never cuts by this one."""


def sources() -> Mapping[str, Log]:
    """How each topic goes to ClickHouse, by topic."""
    return LOGS


def source_of(table: str) -> Log | None:
    """The topic whose records fill a table; None where no topic does (what ClickHouse itself derives)."""
    return next((log for log in LOGS.values() if table in log.tables), None)


def arrivals(messages: Iterable[Message]) -> Iterator[Arrival]:
    """Records of Kafka as `ranges` takes them. Raises RefusedError where Kafka did not stamp one itself."""
    return map(arrival, messages)


def ranges(
    log: Log,
    epoch: int,
    partition: int,
    highest: Highest,
    records: Iterable[Arrival],
    skips: Mapping[int, Skip] | None = None,
) -> Iterator[Range]:
    """The records after `highest`, repeats left out, in ranges of at most RANGE_ROWS rows or RANGE_BYTES.

    `epoch`: of the topic. `skips`: records of the partition that operators skip, by offset; they count for what they
    count for in the sink. Raises RefusedError for a gap and for another record that cannot be read.
    """
    where = f"{log.topic}[{partition}]"
    read = reader(log, epoch, where, skips)
    entries: list[Entry] = []
    rows = size = 0
    for record in records:
        entry = read(record)
        if entry is None or judge(highest, entry.origin, f"{where} offset {record.offset}") is Decision.DROP:
            continue
        highest = after(entry.origin)
        entries.append(entry)
        rows, size = rows + entry.rows, size + len(entry.value)
        if rows >= RANGE_ROWS or size >= RANGE_BYTES:
            yield _range(log, epoch, partition, entries, highest, size)
            entries, rows, size = [], 0, 0
    if entries:
        yield _range(log, epoch, partition, entries, highest, size)


def _range(log: Log, epoch: int, partition: int, entries: list[Entry], highest: Highest, size: int) -> Range:
    first, end = entries[0].offset, entries[-1].offset + 1
    return Range(log.topic, epoch, partition, first, end, _RULE, tuple(entries), highest, size, check=False)


def inserts(log: Log, part: Range, table: str, into: str) -> Iterator[Insert]:
    """What the sink would insert into `table`, for the table `into`, under tokens that the sink never uses."""
    for insert in log.plan(part):
        if insert.table == table:
            yield replace(insert, table=into, token=f"refill/{into}/{insert.token}")
