"""The steps of a rebuild, each a few statements; run.py says in which order and why."""

import time
from dataclasses import dataclass, field
from typing import Final

from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.errors import RefusedError, RetryableError
from runtime.kafka.log import LogReader
from runtime.kafka.skips import read_skips
from runtime.settings import KafkaSettings
from schemas.control import TopicFacts
from schemas.skips import Skips
from sinks.stored import ROW_NAMES, START, Highest, Log, Tables, arrivals, inserts, ranges

INTO: Final = "_rebuilt"
"""Suffix of the new table until the swap."""
ASIDE: Final = "_before"
"""Suffix of the table that was replaced."""
PASS_S: Final = 2.0
"""When a pass over the log takes less, the new table is near enough to the end of the log to be swapped in."""
SINK_S: Final = 120.0
"""How long the sink may write nothing after the swap."""
_MOST_PASSES: Final = 20
_LOOK_S: Final = 0.2


@dataclass
class Partition:
    """Where a rebuild is in a partition: the first offset that Kafka kept, the next to be read, the furthest raw record
    of those that retention deleted, and of those that were read."""

    number: int
    low: int
    next: int
    older: Highest = START
    highest: Highest = START


@dataclass
class Rebuild:
    """One table and its log. `into` is the new table until the swap, `aside` what it replaced."""

    settings: ClickHouseSettings
    broker: KafkaSettings
    table: str
    log: Log
    facts: TopicFacts
    partitions: list[Partition] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.into, self.aside = self.table + INTO, self.table + ASIDE
        self.tables = Tables(self.settings)
        self.reader = LogReader(self.broker)

    @property
    def db(self) -> ClickHouse:
        return self.tables.db

    def close(self) -> None:
        self.reader.close()
        self.tables.close()

    def left_over(self) -> list[str]:
        """Tables of an earlier rebuild."""
        found = self.db.rows(
            "SELECT name FROM system.tables WHERE database = {database:String} AND name IN {names:Array(String)}",
            {"database": self.db.database, "names": [self.into, self.aside]},
        )
        return [name for (name,) in found]

    def drop(self, table: str) -> None:
        self.db.command(f"DROP TABLE IF EXISTS {table} SYNC")

    def begin(self) -> None:
        """Create the new table and see what Kafka holds."""
        self.db.command(f"CREATE TABLE {self.into} AS {self.table}")
        for number in range(self.facts.partitions):
            low, _ = self.reader.bounds(self.log.topic, number)
            older = self._before(number, low)
            self.partitions.append(Partition(number, low, low, older, older))

    def _before(self, number: int, low: int) -> Highest:
        """The furthest raw record whose record in the topic Kafka no longer holds, by the ledger."""
        ledger = self.log.ledger
        only = f"topic = '{self.log.topic}' AND" if ledger.shared else ""
        rows = self.db.rows(
            f"SELECT count(), max((raw_epoch, raw_offset)) FROM {ledger.table} WHERE {only} raw_partition = {number}"
            f" AND ({ledger.epoch}, {ledger.offset}) < ({self.facts.epoch}, {low})"
        )
        return Highest(*rows[0][1]) if rows[0][0] else START

    def copy_older(self) -> int:
        """Rows that only the old table holds, because retention deleted their records; how many."""
        names = self._columns()
        for part in self.partitions:
            if part.older == START:
                continue
            self.db.command(
                f"INSERT INTO {self.into} ({names}) SELECT {names} FROM {self.table}"
                f" WHERE raw_partition = {part.number}"
                f" AND (raw_epoch, raw_offset) <= ({part.older.epoch}, {part.older.src})",
                insert_deduplicate=0,
                max_partitions_per_insert_block=0,
            )
        return int(self.db.rows(f"SELECT count() FROM {self.into}")[0][0])

    def _columns(self) -> str:
        found = self.db.rows(
            "SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String}"
            " AND default_kind NOT IN ('ALIAS', 'MATERIALIZED') ORDER BY position",
            {"database": self.db.database, "table": self.table},
        )
        return ", ".join(name for (name,) in found)

    def follow(self) -> int:
        """Read the log up to where the sink is, again until that takes no time; how many rows were written."""
        rows = 0
        for _ in range(_MOST_PASSES):
            began = time.monotonic()
            skips = read_skips(self.broker)
            rows += sum(self._follow(part, skips) for part in self.partitions)
            if time.monotonic() - began < PASS_S:
                return rows
        raise RetryableError(f"{self.table}: the log grows faster than it is read; try again when the rate is lower")

    def _follow(self, part: Partition, orders: Skips) -> int:
        end = self.stored(part.number)
        if end <= part.next:
            return 0
        rows = 0
        records = arrivals(self.reader.records(self.log.topic, {part.number: (part.next, end)}))
        skips = orders.topic(self.log.topic, part.number, self.facts.epoch)
        for piece in ranges(self.log, self.facts.epoch, part.number, part.highest, records, skips):
            for insert in inserts(self.log, piece, self.table, self.into):
                self.tables.insert(insert, check=False)
                rows += insert.rows.num_rows
            part.highest = piece.after
        part.next = end
        return rows

    def stored(self, number: int) -> int:
        """The offset after the last one that the ledger holds: so far all inserts are acknowledged."""
        end = self.tables.ledger_end(self.log, number)
        return end.offset + 1 if end and end.epoch == self.facts.epoch else 0

    def rows(self) -> int:
        return int(self.db.rows(f"SELECT count() FROM {self.table}")[0][0])

    def swap(self) -> None:
        """Swap the new table in. From here on the sink writes into it."""
        self.db.command(f"EXCHANGE TABLES {self.table} AND {self.into}")
        self.db.command(f"RENAME TABLE {self.into} TO {self.aside}")

    def copy_newer(self) -> None:
        """Rows that the sink wrote into the old table after the log was read; harmless when done again."""
        names, name = self._columns(), ", ".join(ROW_NAMES[self.table])
        for part in self.partitions:
            beyond = f"raw_partition = {part.number} AND (raw_epoch, raw_offset) > ({part.highest.epoch}, {{}})"
            beyond = beyond.format(part.highest.src) if part.highest != START else f"raw_partition = {part.number}"
            self.db.command(
                f"INSERT INTO {self.table} ({names}) SELECT {names} FROM {self.aside} WHERE {beyond}"
                f" AND ({name}) NOT IN (SELECT {name} FROM {self.table} WHERE {beyond})",
                insert_deduplicate=0,
                max_partitions_per_insert_block=0,
            )

    def wait_for_the_sink(self) -> None:
        """Until the ledger is past all that could have been under way into the old table at the swap."""
        ends = {p.number: self.reader.bounds(self.log.topic, p.number)[1] for p in self.partitions}
        before, deadline = dict[int, int](), time.monotonic() + SINK_S
        while behind := {n: at for n, end in ends.items() if (at := self.stored(n)) < end}:
            if behind != before:  # it goes on
                before, deadline = behind, time.monotonic() + SINK_S
            elif time.monotonic() > deadline:
                raise RefusedError(
                    f"{self.table} is rebuilt and swapped in, but the sink has written nothing for {SINK_S:.0f} s, so"
                    f" one of its inserts may still end in {self.aside}. Start the sink and run the rebuild again with"
                    " --again"
                )
            time.sleep(_LOOK_S)
