"""One partition of one log on its way to ClickHouse: records in, ranges out, one at a time. Pure, not thread-safe."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from runtime.stage.provenance import Decision, Highest, after, judge
from schemas.vocabulary import Kind
from sinks.core.ranges import Extent, Rule, ends
from sinks.core.records import Arrival, Entry
from sinks.core.start import Mark, Start

Reader = Callable[[Arrival], Entry]


@dataclass(frozen=True, slots=True)
class Range:
    """Offsets `first` to `end`-1 of one partition, repeats left out. `check`: ask which rows are there already.

    `since_ms`: stream time of the record before its first; known for derived topics only.
    """

    topic: str
    epoch: int
    partition: int
    first: int
    end: int
    rule: Rule
    entries: tuple[Entry, ...]
    after: Highest
    bytes: int
    check: bool
    since_ms: int = 0

    @property
    def where(self) -> str:
        return f"{self.topic}[{self.partition}]"

    @property
    def until_ms(self) -> int:
        """Stream time of its last record."""
        return self.entries[-1].time_ms if self.entries else self.since_ms


MANY: Final = 3
"""So many ranges waiting to be written mean that small ones cost more than there is time for."""
MOST_TIMES: Final = 20
WAITING_TIMES: Final = 4


class Flow:
    """The state of a partition since it was assigned.

    The first range has the rule of the commit; each later one `rule`, or while ranges pile up one with longer steps.
    The rule of a range is in Kafka's commit before the range is written, so a successor cuts it the same.
    With `timed` so is the stream time of the record before, of which the rows of derived topics tell.
    """

    def __init__(
        self, topic: str, epoch: int, partition: int, start: Start, rule: Rule, read: Reader, timed: bool = False
    ) -> None:
        self.topic, self.epoch, self.partition = topic, epoch, partition
        self.where = f"{topic}[{partition}]"
        self.position = start.offset
        self.repeats = 0
        self.bytes = 0
        self.owned = True
        """Set to False, from any thread, when the partition was taken away: nothing more may be written for it."""
        self.doubt = False
        """The process stood still for long: until Kafka takes a commit it may be a zombie, so it asks first."""
        self.closed: deque[Range] = deque()
        self.to_commit: tuple[int, str] | None = None
        """Offset and metadata that Kafka must hold before the next range may be written."""
        self._read, self._normal, self._lag_ms = read, rule, 0
        self._rule, self._highest = start.rule, start.highest
        self._timed, self._time_ms = timed, start.time_ms
        self._check_until, self._first_range = start.check_until, True
        self._open(start.offset)
        if not start.committed:
            self.to_commit = (start.offset, self._mark(start.highest, start.rule, start.time_ms))

    def _open(self, first: int) -> None:
        self._first, self._extent, self._before = first, Extent(), self._highest
        self._since_ms = self._time_ms
        self._entries: list[Entry] = []

    def _mark(self, highest: Highest, rule: Rule, time_ms: int) -> str:
        return Mark(self.epoch, highest, rule, time_ms if self._timed else None).encode()

    def take(self, record: Arrival, lag_ms: int = 0) -> None:
        """The next record of the log, which was appended `lag_ms` ago.

        Raises RefusedError for a gap, UnreadableRecordError for a broken or a newer record.
        """
        self.put(record, self._read(record), lag_ms)

    def put(self, record: Arrival, entry: Entry | None, lag_ms: int = 0) -> None:
        """The next record of the log, as `entry`. None: nothing follows from it. Raises RefusedError for a gap."""
        self._lag_ms = lag_ms
        new = (
            entry is not None
            and judge(self._highest, entry.origin, f"{self.where} offset {record.offset}") is Decision.APPLY
        )
        if entry is not None and new:
            self._entries.append(entry)
            self._highest, self._time_ms = after(entry.origin), entry.time_ms
        elif entry is not None:
            self.repeats += 1
        self.position = record.offset + 1
        self.bytes += len(record.value)
        kind, rows, busy = (entry.kind, entry.rows, entry.busy) if entry is not None and new else (Kind.TICK, 0, False)
        self._extent = self._extent.add(busy, rows, len(record.value), record.appended_ms)
        if ends(self._rule, self._extent, kind):
            self._close()

    def _close(self) -> None:
        check = self._first_range or self._before < self._check_until
        self.closed.append(
            Range(
                self.topic,
                self.epoch,
                self.partition,
                self._first,
                self.position,
                self._rule,
                tuple(self._entries),
                self._highest,
                self._extent.bytes,
                check,
                self._since_ms,
            )
        )
        self._first_range = False
        self._rule = self._choose_rule()
        self._open(self.position)

    def _choose_rule(self) -> Rule:
        """Any rule would do: it is in the commit before it is used. Longer steps where they delay nothing: as long as
        what the log already holds, or while writing is the bottleneck."""
        times = self._lag_ms // self._normal.pace_ms
        if len(self.closed) >= MANY:
            times = max(times, min(len(self.closed), WAITING_TIMES))
        return self._normal.slower(min(times, MOST_TIMES)) if times > 1 else self._normal

    def next(self) -> Range | None:
        """The range to write now: the oldest closed one, once Kafka holds what must be committed before."""
        return self.closed[0] if self.closed and self.to_commit is None else None

    def stored(self, done: Range) -> None:
        """All tables hold the oldest range: it is to be committed."""
        assert self.closed[0] is done
        following = self.closed[1].rule if len(self.closed) > 1 else self._rule
        self.to_commit = (done.end, self._mark(done.after, following, done.until_ms))

    def committed(self) -> Range | None:
        """Kafka holds `to_commit`. Returns the range that is done with; None if it was the start that was committed."""
        assert self.to_commit is not None
        done = self.closed.popleft() if self.closed and self.closed[0].end == self.to_commit[0] else None
        self.bytes -= done.bytes if done else 0
        self.doubt = False
        self.to_commit = None
        return done
