"""A sink over one log: sinks.core's flow, start decision, rules and tokens, against tables with a bounded memory."""

import random
from dataclasses import dataclass, field

from runtime.errors import RefusedError
from runtime.stage.provenance import START, Highest
from schemas.headers import Provenance
from sinks.core.flow import Flow, Range
from sinks.core.inserts import token
from sinks.core.ranges import Rule
from sinks.core.records import Arrival, Entry, read_readings
from sinks.core.start import Found, LedgerEnd, Mark, Start, decide
from tests.protocol.options import Options
from tests.protocol.parts import Log, Row, Stopped, Table, fates_of


@dataclass
class Store:
    """What sinks of one log share: tables by verdict, the ledger, Kafka's commit and the group's generation."""

    log: Log
    verdicts: tuple[str, ...]
    window: int
    commit: tuple[int, str] | None = None
    generation: int = 0
    tables: dict[str, Table] = field(default_factory=dict)
    late: list[tuple[Table, str, list[Row], bool, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tables = {name: Table(self.window) for name in (*self.verdicts, "ledger")}

    @property
    def ledger(self) -> Table:
        return self.tables["ledger"]


class Sink:
    def __init__(self, store: Store, rng: random.Random, options: Options) -> None:
        self.store, self.random, self.options = store, rng, options
        store.generation += 1
        self.generation = store.generation
        self.todo: list[tuple[str, str, list[Row]]] | None = None
        self.range: Range | None = None
        self.retried = False
        rule = Rule(rng.choice((1, 2, 3, 5)), 1 << 20, 1 << 40, rng.choice((0, 5)))
        try:
            self.flow = Flow(store.log.name, store.log.epoch, 0, self._start(rule), rule, self._read)
        except RefusedError as error:
            raise Stopped(str(error)) from None

    def _read(self, arrival: Arrival) -> Entry:
        entry = read_readings(self.store.log.name, arrival)
        if self.options.mutant != "no drop by provenance":
            return entry
        fresh = self.flow._highest.src + 1
        origin = Provenance(entry.origin.epoch, max(fresh, entry.origin.src), self.flow._highest.src)
        return Entry(entry.offset, entry.appended_ms, entry.kind, origin, entry.rows, entry.found, entry.value)

    def _start(self, rule: Rule) -> Start:
        log, ledger = self.store.log, self.store.ledger.rows
        newest = max(ledger, default=None)
        end = LedgerEnd(Highest(newest[0], newest[1]), newest[2], newest[3]) if newest else None
        rows = [row for table in self.store.tables.values() for row in table.rows]
        furthest = max((Highest(row[0], row[1]) for row in rows), default=START)
        if self.options.mutant == "no commit means the beginning" and self.store.commit is None:
            return Start(log.low, START, rule, START, committed=False)
        start = decide(log.name, Found(log.epoch, log.low, log.end, self.store.commit, end, furthest), rule)
        if self.options.mutant == "the range's rule is the sink's own":
            return Start(start.offset, start.highest, rule, START, start.committed)
        if self.options.mutant == "no condition after a start":
            return Start(start.offset, start.highest, start.rule, START, start.committed)
        return start

    def step(self) -> bool:
        """One step; False when there was nothing to do. Raises Stopped; "die" is said by the caller on None."""
        if self.flow.to_commit is not None:
            return self._commit()
        if self.range is None and (found := self.flow.next()) is not None:
            self._plan(found)
            return True
        if self.range is not None:
            return self._insert()
        return self._take()

    def _take(self) -> bool:
        log = self.store.log
        if self.flow.position < log.low:
            raise Stopped("retention overtook the sink")
        if self.flow.position >= log.end:
            return False
        try:
            self.flow.take(log.get(self.flow.position).arrival())
        except RefusedError as error:
            raise Stopped(str(error)) from None
        return True

    def _plan(self, found: Range) -> None:
        self.range, self.todo, self.retried = found, [], False
        for verdict in self.store.verdicts:
            rows = [
                (e.origin.epoch, e.origin.src, i, uid, extra)
                for e in found.entries
                for i, (uid, v, extra) in enumerate(fates_of(e.value))
                if v == verdict
            ]
            if rows:
                self.todo.append((verdict, token(found, verdict, 0), rows))
        facts = [(e.origin.epoch, e.origin.src, found.epoch, e.offset) for e in found.entries]
        if facts:
            self.todo.append(("ledger", token(found, "ledger", 0), facts))
        if self.options.mutant == "commit before insert":
            mark = Mark(found.epoch, found.after, self.flow._normal).encode()
            self.store.commit = (found.end, mark)

    def _insert(self) -> bool:
        assert self.todo is not None and self.range is not None
        if not self.todo:
            self.flow.stored(self.range)
            self.range = self.todo = None
            return True
        name, name_of_insert, rows = self.todo[0]
        table, chance = self.store.tables[name], self.random.random()
        first = self._asks(self.range)
        self.retried = True
        if chance < 0.08:
            return True  # nothing arrived: retry
        if chance < 0.16 and self.options.late_insert:
            # the request lies in a buffer, the client gave up on it and retries
            self.store.late.append((table, name_of_insert, rows, first, table.inserts))
            return True
        table.put(name_of_insert, rows, first)
        if chance < 0.30:
            return True  # done, but the answer was lost: retry
        self.todo.pop(0)
        self.retried = False
        return True

    def _asks(self, part: Range) -> bool:
        """Whether the insert asks which rows are there: first range, each retry, or this process was stopped for longer
        than a session (a zombie) and by its own clock knows it: the tables may have forgotten the token meanwhile."""
        if self.options.mutant == "no condition after a start":
            return False
        mutant = self.options.mutant
        stopped = self.generation != self.store.generation and mutant != "a sink that was stopped trusts tokens"
        return part.check or stopped or (self.retried and mutant != "a retry trusts tokens")

    def late_lands(self) -> None:
        """An insert that was given up on. Its time-out is shorter than the window lasts: later than that it is gone."""
        table, name, rows, first, then = self.store.late.pop(0)
        if table.inserts - then < table.window // 4:
            table.put(name, rows, first)

    def _commit(self) -> bool:
        if self.generation != self.store.generation and self.options.mutant != "zombies may commit":
            raise Zombie
        assert self.flow.to_commit is not None
        self.store.commit = self.flow.to_commit
        self.flow.committed()
        return True


class Zombie(Exception):
    """Kafka fenced this sink: it is of an old generation."""
