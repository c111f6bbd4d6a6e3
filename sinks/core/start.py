"""Where a sink starts in a partition it was given, and the mark it leaves in Kafka's commit. Pure.

Normally the commit says it. Where there is none (a new group, an expired one) the ledger's furthest row does, for it
is written last. Where neither does, only a log that begins at 0 and tables that hold nothing of it may be started:
anything else could lose or double in silence.
"""

from dataclasses import dataclass
from typing import Final

from runtime.errors import RefusedError
from runtime.stage.provenance import START, Highest
from schemas.errors import ContractError
from sinks.core.ranges import Rule

_FORM: Final = "1"


@dataclass(frozen=True, slots=True)
class Mark:
    """What travels in the commit: the topic's epoch, the furthest raw record stored, the rule of the next range, and
    for derived topics the stream time of that record."""

    epoch: int
    highest: Highest
    rule: Rule
    time_ms: int | None = None

    def encode(self) -> str:
        time = "" if self.time_ms is None else f" {self.time_ms}"
        return f"{_FORM} {self.epoch} {self.highest.epoch} {self.highest.src} {self.rule.encode()}{time}"

    @classmethod
    def parse(cls, text: str) -> "Mark":
        try:
            form, epoch, raw_epoch, src, rule, *time = text.split(" ")
            if form == _FORM and len(time) <= 1:
                highest = Highest(int(raw_epoch), int(src))
                return cls(int(epoch), highest, Rule.parse(rule), int(time[0]) if time else None)
        except ValueError:
            pass
        raise ContractError(f"metadata of the Kafka commit is {text[:80]!r}: not written by this sink or a newer one")


@dataclass(frozen=True, slots=True)
class LedgerEnd:
    """The furthest row of the ledger for a partition: its raw record, epoch and offset in the topic read, and stream
    time."""

    highest: Highest
    epoch: int
    offset: int
    time_ms: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What Kafka and ClickHouse hold when a partition is assigned.

    `epoch` of the topic, `low` and `high`: first offset kept, next one to be written. `furthest` raw record of which
    any table holds a row.
    """

    epoch: int
    low: int
    high: int
    commit: tuple[int, str] | None
    ledger: LedgerEnd | None
    furthest: Highest


@dataclass(frozen=True, slots=True)
class Start:
    """Read from `offset`. Ranges that touch raw records up to `check_until` must ask which of their rows are there
    already. `committed`: the commit already says this. `time_ms`: stream time of the record before."""

    offset: int
    highest: Highest
    rule: Rule
    check_until: Highest
    committed: bool
    time_ms: int = 0


def decide(where: str, found: Found, rule: Rule) -> Start:
    """Where to start. `rule` is what the settings say, for logs that no commit speaks of. Raises RefusedError."""
    mark = _mark(where, found)
    if mark is None:
        return _without_commit(where, found, rule)
    assert found.commit is not None
    offset = found.commit[0]
    _inside(where, offset, found)
    stored = found.ledger.highest if found.ledger else START
    if stored < mark.highest:
        raise RefusedError(
            f"{where}: the commit says that raw records up to {_name(mark.highest)} are stored, but the ledger in"
            f" ClickHouse ends at {_name(stored)}: ClickHouse lost rows or is another server. Restore it, or reset the"
            " consumer group to read the log again"
        )
    return Start(offset, mark.highest, mark.rule, found.furthest, committed=True, time_ms=mark.time_ms or 0)


def _mark(where: str, found: Found) -> Mark | None:
    """The mark of the commit; None if there is none or if it is about an earlier topic of the same name."""
    if found.commit is None:
        return None
    try:
        mark = Mark.parse(found.commit[1])
    except ContractError as error:
        raise RefusedError(f"{where}: {error}") from None
    return mark if mark.epoch == found.epoch else None


def _without_commit(where: str, found: Found, rule: Rule) -> Start:
    stored, time_ms = (found.ledger.highest, found.ledger.time_ms) if found.ledger else (START, 0)
    if found.ledger and found.ledger.epoch == found.epoch:
        _inside(where, found.ledger.offset + 1, found)
        return Start(found.ledger.offset + 1, stored, rule, found.furthest, committed=False, time_ms=time_ms)
    if found.low > 0:
        raise RefusedError(
            f"{where}: there is no commit and no ledger for this topic, and the log begins at offset {found.low}:"
            " what was before it may never have been stored. Restore the commit or the tables"
        )
    if found.furthest > stored:
        raise RefusedError(
            f"{where}: there is no commit, and tables hold rows up to {_name(found.furthest)} of which the ledger"
            " knows nothing: they were written by something else, or the ledger was lost. Restore the commit or the"
            " ledger, or empty the tables"
        )
    return Start(0, stored, rule, found.furthest, committed=False, time_ms=time_ms)


def _inside(where: str, offset: int, found: Found) -> None:
    if offset < found.low:
        raise RefusedError(
            f"{where}: retention deleted offsets {offset} to {found.low - 1} before they were stored. They are lost to"
            " ClickHouse unless the topic is restored; raise retention.ms and watch the sink's lag"
        )
    if offset > found.high:
        raise RefusedError(
            f"{where}: stored up to offset {offset - 1}, but the topic ends at {found.high}: it was"
            " truncated or created again. Restore it"
        )


def _name(highest: Highest) -> str:
    return "none" if highest == START else f"offset {highest.src} of epoch {highest.epoch}"
