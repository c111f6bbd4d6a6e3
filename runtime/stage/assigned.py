"""A partition that is assigned to this worker, and how it is taken over from what is stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from confluent_kafka import Message as Fetched

from runtime.stage import snapshot as form
from runtime.stage import store
from runtime.stage.admission import Options, admit, first, goal
from runtime.stage.contract import Stage, State
from runtime.stage.newest import SnapshotPosition, newest
from runtime.stage.provenance import START, Highest
from runtime.stage.snapshot import Snapshot, Written
from schemas.topics import state_topic


class Message(Protocol):
    """A source record as Faust hands it over. `timestamp` is in seconds."""

    partition: int
    offset: int
    timestamp: float
    headers: Any
    key: bytes | None
    value: bytes | None


@dataclass(slots=True)
class Refetched:
    """A source record that was read again, past Faust: a Message."""

    partition: int
    offset: int
    timestamp: float
    headers: Any
    key: bytes | None
    value: bytes | None

    @classmethod
    def of(cls, found: Fetched) -> "Refetched":
        key: Any = found.key()
        headers: Any = found.headers()
        timestamp_s = found.timestamp()[1] / 1000
        return cls(found.partition() or 0, found.offset() or 0, timestamp_s, headers, key, found.value())


@dataclass(slots=True)
class AssignedPartition:
    """A partition that is assigned to this worker, with its state.

    `meta` is the last snapshot; `position`, `highest` and `written` have moved on since. `snapshots`: where snapshots
    are stored; outputs up to `known` were in Kafka when it was assigned; `goal` is what a drain has yet to reach;
    `gap_accepted`: the operator accepted that one record follows a gap; `dirty`: there are records in no snapshot yet;
    `lost`: the group has assigned it to another worker, as a refused commit showed; `copy_ahead`: before so many more
    records the state is copied.
    """

    state: State
    meta: Snapshot
    known: Mapping[str, Highest]
    snapshots: SnapshotPosition
    goal: Highest | None = None
    gap_accepted: bool = False
    dirty: bool = False
    lost: bool = False
    copy_ahead: int = 0
    last: Message | None = None
    position: int = 0
    highest: Highest = START
    written: dict[str, Written] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.position, self.highest, self.written = self.meta.position, self.meta.highest, dict(self.meta.written)

    def took(self, message: Message) -> None:
        """The message is done with: applied, or dropped as a repeat."""
        self.position = message.offset + 1
        self.last = message
        self.dirty = True

    def mark(self, logic_version: int) -> Snapshot:
        """How far we are, for a snapshot that is being made."""
        self.dirty = False
        return replace(
            self.meta,
            logic_version=logic_version,
            position=self.position,
            fingerprint=self.fingerprint(),
            highest=self.highest,
            written=dict(self.written),
        )

    def fingerprint(self) -> int:
        """That of the record before the position."""
        if self.last is None:
            return self.meta.fingerprint
        last = self.last
        return form.fingerprint(last.offset, round(last.timestamp * 1000), last.key, last.value)


def take_over(
    stage: Stage, source: tuple[str, int], reader: store.Reader, partition: int, options: Options, discard: bool
) -> AssignedPartition:
    """The partition from its newest snapshot, or from nothing. `source` is (topic id, epoch of telemetry.raw);
    `discard` ignores the snapshots. Blocks. Raises RefusedError when going on would lose or double something."""
    topic_id, epoch = source
    stored = newest(reader, state_topic(stage.name), partition, discard)
    found = stored.snapshot
    thorough = options.drain or (found is not None and found.logic_version != stage.logic_version)
    facts = store.log_facts(reader, (stage.source, topic_id, epoch), partition, found, stage.outputs, thorough)
    known = {name: output.last for name, output in facts.outputs.items()}
    if found is None or stored.state is None:
        meta = first(stage.name, stage.logic_version, partition, facts, options)
        mine = AssignedPartition(stage.create(partition), meta, known, stored.position, dirty=True)
    else:
        meta = admit(found, stage.logic_version, stage.reads, facts, options)
        mine = AssignedPartition(
            stage.restore(partition, stored.state, found.logic_version), meta, known, stored.position
        )
        # a new version's snapshot is there before its first output: else a kill would leave outputs that the old one's
        # snapshot does not cover, and ask for a drain by the old version, which would judge them its own way
        mine.dirty = meta.position != found.position or found.logic_version != stage.logic_version
    mine.gap_accepted = options.skip_lost
    mine.goal = goal(meta, facts) if options.drain else None
    return mine
