"""One partition in a worker's hands, and how it is taken over from what is stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from runtime.columns.pack import unpack
from runtime.stage import snapshot as form
from runtime.stage import store
from runtime.stage.admission import Options, admit, first, goal
from runtime.stage.contract import Frozen, Stage, State
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
class Held:
    """A partition of ours.

    `meta` is the last snapshot; `position`, `highest` and `written` have moved on since. `state_end` is the end of the
    snapshot topic after our last write or load; outputs up to `known` were in Kafka when we took over; `goal` is what a
    drain has yet to reach; `gap_accepted`: the operator said that one record may follow a gap.
    """

    state: State
    meta: Snapshot
    known: Mapping[str, Highest]
    state_end: int
    turn: int
    goal: Highest | None = None
    gap_accepted: bool = False
    dirty: bool = False
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

    def fingerprint(self) -> int:
        """That of the record before the position."""
        if self.last is None:
            return self.meta.fingerprint
        last = self.last
        return form.fingerprint(last.offset, round(last.timestamp * 1000), last.key, last.value)


def take(
    stage: Stage, source: tuple[str, int], reader: store.Reader, partition: int, options: Options, anew: bool
) -> Held:
    """The partition from its newest snapshot, or from nothing. `source` is (topic id, epoch of telemetry.raw); `anew`
    passes the snapshots over. Blocks. Raises RefusedError when going on would lose or double something."""
    topic_id, epoch = source
    topic = state_topic(stage.name)
    end = reader.bounds(topic, partition)[1]
    stored = None if anew else reader.newest(topic, partition)
    changed = stored is not None and stored.snapshot.logic_version != stage.logic_version
    thorough = options.drain or changed
    world = store.world(reader, (stage.source, topic_id, epoch), partition, stored, stage.outputs, thorough)
    known = {name: output.last for name, output in world.outputs.items()}
    if stored is None:
        meta = first(stage.name, stage.logic_version, partition, world, options)
        held = Held(stage.create(partition), meta, known, end, 0, dirty=True)
    else:
        meta = admit(stored.snapshot, stage.logic_version, stage.reads, world, options)
        state = stage.restore(partition, Frozen(*unpack(stored.state)), stored.snapshot.logic_version)
        held = Held(state, meta, known, end, form.turn_after(stored.key))
        held.dirty = meta.position != stored.snapshot.position
    held.gap_accepted = options.skip_lost
    held.goal = goal(meta, world) if options.drain else None
    return held
