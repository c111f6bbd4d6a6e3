"""Whether a stage may resume from a snapshot, given the current contents of the topics. Pure: facts in, start or error
out.

Call order, for each assigned partition: `admit(snapshot, …)` if a snapshot is stored, else `first(…)`; then `goal(…)`
returns the position that a draining stage has to reach:

    facts = LogFacts("telemetry.raw", topic_id, epoch=0, low=0, end=120, fingerprint=stored.fingerprint, outputs=ends)
    start = admit(stored, version=3, reads=(2,), facts=facts, options=Options())

Without any one of these rules a sequence of crashes, or a mistake of an operator, would silently lose or duplicate
data: a re-created topic, a truncated log, records that retention deleted, outputs of another logic version.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from runtime.errors import RefusedError
from runtime.stage.provenance import START, Highest
from runtime.stage.snapshot import Snapshot, Written
from schemas.skips import FROM_OLDEST, SKIP_LOST


@dataclass(frozen=True, slots=True)
class OutputEnd:
    """The end of one partition of an output topic: the next offset, and the highest provenance of its records."""

    end: int = 0
    last: Highest = START


@dataclass(frozen=True, slots=True)
class LogFacts:
    """The contents of the topics when a partition is assigned.

    `source`, `topic_id`: name and id of the source topic. `epoch`: of telemetry.raw. `low`, `end`: first offset and
    next offset of the source partition. `fingerprint`: of the source record before the snapshot's position; None if
    retention deleted it, or there is none. `outputs`: by topic, the same partition of each output topic.
    """

    source: str
    topic_id: str
    epoch: int
    low: int
    end: int
    fingerprint: int | None = None
    outputs: Mapping[str, OutputEnd] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one start, from the command line: `drain` (apply until the snapshots cover all outputs, then stop),
    `from_oldest` (start from an empty state at the oldest record), `skip_lost` (resume after records that are lost)."""

    drain: bool = False
    from_oldest: bool = False
    skip_lost: bool = False


def reset(stage: str, partition: int, mode: str) -> str:
    """The command, for messages, that lets a partition start although state or records are missing. `mode`: FROM_OLDEST
    or SKIP_LOST."""
    order = f"millrace stage reset {stage} --partition {partition} --{mode} --reason '...'"
    return f"`{order}`, then `millrace restart {stage}`"


def started_over(*stages: str) -> str:
    """The commands, for messages, that start all partitions of stages with an empty state; upstream stages first."""
    orders = [f"`millrace stage reset {stage} --{FROM_OLDEST} --reason '...'`" for stage in stages]
    return f"{', '.join(orders)}, then `millrace restart {' '.join(stages)}`"


def first(stage: str, version: int, partition: int, facts: LogFacts, options: Options) -> Snapshot:
    """The snapshot to start from where none is stored: an empty state at the oldest record of `facts.source`.

    `version`: the logic version of this stage. Raises RefusedError, with the command to run, if records were deleted or
    outputs were written, which an empty state would miss or repeat, unless `options.from_oldest`.
    """
    if not options.from_oldest:
        written = [topic for topic, output in facts.outputs.items() if output.end > 0]
        if facts.low > 0 or written:
            what = f"{facts.source} starts at offset {facts.low}" if facts.low > 0 else f"{written[0]} holds records"
            raise RefusedError(
                f"{stage} partition {partition}: there is no snapshot, but {what}: an empty state would miss"
                " earlier records. Restore the snapshots, or accept the loss:"
                f" {reset(stage, partition, FROM_OLDEST)}"
            )
    return Snapshot(stage, partition, version, facts.topic_id, facts.low)


def admit(snapshot: Snapshot, version: int, reads: Collection[int], facts: LogFacts, options: Options) -> Snapshot:
    """The snapshot to resume from: `snapshot`, its position moved only by `options.skip_lost`.

    `version`: the logic version of this stage, which can read states of the older versions in `reads`. Raises
    RefusedError, with the command to run, if the topics do not match the snapshot (re-created, truncated, records
    deleted), or this version cannot resume from it.
    """
    who = f"{snapshot.stage} partition {snapshot.partition}"
    _same_topic(who, snapshot, facts)
    if snapshot.position < facts.low:
        snapshot = _overtaken(who, snapshot, facts, options)
    elif facts.fingerprint is not None and facts.fingerprint != snapshot.fingerprint:
        raise RefusedError(
            f"{who}: record {snapshot.position - 1} of {facts.source} is not the one before the snapshot: the topic"
            " was truncated or restored from elsewhere. Restore both together, or discard the old state:"
            f" {reset(snapshot.stage, snapshot.partition, FROM_OLDEST)}"
        )
    for topic, written in snapshot.written.items():
        _output_kept(who, snapshot, topic, written, facts.outputs[topic])
    if snapshot.logic_version != version:
        _readable(who, snapshot, version, reads)
        _version_may_change(who, snapshot, version, facts)
    return snapshot


def _same_topic(who: str, snapshot: Snapshot, facts: LogFacts) -> None:
    if snapshot.topic_id != facts.topic_id:
        raise RefusedError(
            f"{who}: the snapshot was made of {facts.source} with topic id {snapshot.topic_id}; the topic now has"
            f" {facts.topic_id}: it was re-created. Restore the old topic, or discard the old"
            f" state: {reset(snapshot.stage, snapshot.partition, FROM_OLDEST)}"
        )
    if snapshot.position > facts.end:
        raise RefusedError(
            f"{who}: the snapshot has reached offset {snapshot.position} of {facts.source}, which ends at {facts.end}:"
            " the topic was truncated (a power cut?). Restore it, or discard the old state:"
            f" {reset(snapshot.stage, snapshot.partition, FROM_OLDEST)}"
        )


def _overtaken(who: str, snapshot: Snapshot, facts: LogFacts, options: Options) -> Snapshot:
    if not options.skip_lost:
        raise RefusedError(
            f"{who}: retention deleted offsets {snapshot.position} to {facts.low - 1} of {facts.source} before they"
            f" were applied; it starts at {facts.low}. They are lost to this stage: restore them, or continue without"
            f" them (the ledger shows the difference): {reset(snapshot.stage, snapshot.partition, SKIP_LOST)}"
        )
    return replace(snapshot, position=facts.low, fingerprint=0)


def _output_kept(who: str, snapshot: Snapshot, topic: str, written: Written, output: OutputEnd) -> None:
    if output.end <= written.offset:
        raise RefusedError(
            f"{who}: {topic} ends at offset {output.end}, but this stage has written up to {written.offset}: the topic"
            " was truncated or re-created. Restore it, or discard the old state:"
            f" {reset(snapshot.stage, snapshot.partition, FROM_OLDEST)}"
        )


def _readable(who: str, snapshot: Snapshot, version: int, reads: Collection[int]) -> None:
    old = snapshot.logic_version
    if old not in reads:
        others = f"its own and those of {', '.join(map(str, sorted(reads)))}" if reads else "only its own"
        raise RefusedError(
            f"{who}: the snapshot is of logic version {old}, and version {version} can read {others}. Start a version"
            f" that reads {old}, or discard the old state:"
            f" {reset(snapshot.stage, snapshot.partition, FROM_OLDEST)}"
        )


def _version_may_change(who: str, snapshot: Snapshot, version: int, facts: LogFacts) -> None:
    behind = goal(snapshot, facts)
    if behind is not None:
        old = snapshot.logic_version
        raise RefusedError(
            f"{who}: the snapshot is of logic version {old} and has reached raw offset {snapshot.highest.src}, but"
            f" version {old} has already written outputs up to {behind.src}; version {version} might write them"
            f" differently. Run version {old} once with `python -m streams.{snapshot.stage} --drain`, then start"
            f" version {version}"
        )


def goal(snapshot: Snapshot, facts: LogFacts) -> Highest | None:
    """The provenance that the snapshot has to reach to cover every output that was written; None if it already does."""
    furthest = max((output.last for output in facts.outputs.values()), default=START)
    return furthest if furthest > snapshot.highest else None
