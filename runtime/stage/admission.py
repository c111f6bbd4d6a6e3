"""May a stage go on from this snapshot, given what the topics hold now? Pure: facts in, the start or a refusal out.

Every rule is here because without it a schedule of crashes, or an operator's mistake, loses or doubles something in
silence: a re-created topic, a truncated log, retention that overtook, outputs of another logic version.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from runtime.errors import RefusedError
from runtime.stage.provenance import START, Highest
from runtime.stage.snapshot import Snapshot, Written
from schemas.skips import FROM_OLDEST, SKIP_LOST


@dataclass(frozen=True, slots=True)
class OutputEnd:
    """The end of one partition of an output topic: the next offset there and the furthest provenance found there."""

    end: int = 0
    last: Highest = START


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What the logs hold when a partition is assigned.

    `low` and `end` of the source partition: first offset kept, next offset to be written. `epoch` of telemetry.raw.
    `fingerprint` of the source record before the snapshot's position; None: retention took it, or there is none.
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
    """What the operator asked for, once, on the command line."""

    drain: bool = False
    from_oldest: bool = False
    skip_lost: bool = False


def reset(stage: str, partition: int, mode: str) -> str:
    """The command that lets a partition start although something is missing."""
    order = f"millrace stage reset {stage} --partition {partition} --{mode} --reason '...'"
    return f"`{order}`, then `millrace restart {stage}`"


def first(stage: str, version: int, partition: int, facts: LogFacts, options: Options) -> Snapshot:
    """The snapshot to begin with where none is stored. Raises RefusedError unless there is nothing to lose."""
    if not options.from_oldest:
        written = [topic for topic, output in facts.outputs.items() if output.end > 0]
        if facts.low > 0 or written:
            what = f"{facts.source} starts at offset {facts.low}" if facts.low > 0 else f"{written[0]} holds records"
            raise RefusedError(
                f"{stage} partition {partition}: there is no snapshot, but {what}: starting with an empty state would"
                " forget what was there. Restore the snapshots, or accept it:"
                f" {reset(stage, partition, FROM_OLDEST)}"
            )
    return Snapshot(stage, partition, version, facts.topic_id, facts.low)


def admit(snapshot: Snapshot, version: int, reads: Collection[int], facts: LogFacts, options: Options) -> Snapshot:
    """The snapshot to go on from (its position moved only by --skip-lost), for logic version `version`, which can read
    states of the older ones in `reads`. Raises RefusedError that says what to do."""
    who = f"{snapshot.stage} partition {snapshot.partition}"
    _same_topic(who, snapshot, facts)
    if snapshot.position < facts.low:
        snapshot = _overtaken(who, snapshot, facts, options)
    elif facts.fingerprint is not None and facts.fingerprint != snapshot.fingerprint:
        raise RefusedError(
            f"{who}: record {snapshot.position - 1} of {facts.source} is not the one the snapshot was made after: the"
            " topic was truncated or restored from elsewhere. Restore both together, or forget the old state:"
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
            f" {facts.topic_id}: it was re-created. Bring the old topic back, or forget the old"
            f" state: {reset(snapshot.stage, snapshot.partition, FROM_OLDEST)}"
        )
    if snapshot.position > facts.end:
        raise RefusedError(
            f"{who}: the snapshot has reached offset {snapshot.position} of {facts.source}, which ends at {facts.end}:"
            " the topic was truncated (a power cut?). Restore it, or forget the old state:"
            f" {reset(snapshot.stage, snapshot.partition, FROM_OLDEST)}"
        )


def _overtaken(who: str, snapshot: Snapshot, facts: LogFacts, options: Options) -> Snapshot:
    if not options.skip_lost:
        raise RefusedError(
            f"{who}: retention took offsets {snapshot.position} to {facts.low - 1} of {facts.source} before they were"
            f" applied; it starts at {facts.low}. They are lost here: restore them, or go on without"
            f" them (the ledger shows the difference): {reset(snapshot.stage, snapshot.partition, SKIP_LOST)}"
        )
    return replace(snapshot, position=facts.low, fingerprint=0)


def _output_kept(who: str, snapshot: Snapshot, topic: str, written: Written, output: OutputEnd) -> None:
    if output.end <= written.offset:
        raise RefusedError(
            f"{who}: {topic} ends at offset {output.end}, but this stage has written up to {written.offset}: the topic"
            " was truncated or re-created. Restore it, or forget the old state:"
            f" {reset(snapshot.stage, snapshot.partition, FROM_OLDEST)}"
        )


def _readable(who: str, snapshot: Snapshot, version: int, reads: Collection[int]) -> None:
    old = snapshot.logic_version
    if old not in reads:
        others = f"its own and those of {', '.join(map(str, sorted(reads)))}" if reads else "only its own"
        raise RefusedError(
            f"{who}: the snapshot is of logic version {old}, and version {version} can read {others}. Start a version"
            f" that reads {old}, or forget the old state:"
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
    """What the snapshot has to reach to cover every output written; None when it has."""
    furthest = max((output.last for output in facts.outputs.values()), default=START)
    return furthest if furthest > snapshot.highest else None
