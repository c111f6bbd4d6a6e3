"""Stages from outside: what is stored of them, and orders to skip a record or to reset a partition.

Blocking; every function raises RetryableError while Kafka does not answer, and what else its docstring names.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

from runtime.errors import MillraceError, RefusedError, RetryableError
from runtime.kafka import clients, topics
from runtime.kafka.log import LogReader
from runtime.kafka.produce import NewRecord, produce_confirmed
from runtime.kafka.skips import read_skips
from runtime.settings import KafkaSettings
from runtime.stage.newest import newest
from runtime.stage.store import Reader
from schemas import topics as names
from schemas.control import TopicFacts
from schemas.errors import ContractError
from schemas.headers import Provenance
from schemas.skips import Reset, Skip, declared, reset_key, skip_key
from schemas.topics import FACTS, STAGES, source_of, state_topic

_TIMEOUT_S: Final = 15.0
NO_SNAPSHOT: Final = "there is no snapshot"


class StageError(MillraceError):
    """The order is refused: it would have no effect, or lose something."""


@dataclass(frozen=True, slots=True)
class Output:
    """An output topic's partition: `written` by the snapshot (offset of the last record it knows), `end` of the log."""

    topic: str
    written: int
    end: int


@dataclass(frozen=True, slots=True)
class Inspected:
    """What is stored of one partition of a stage. Offsets are -1 where there is nothing.

    `position`: the next source offset to apply; `low` and `end` of the source; `committed` by the group; `manifest`:
    its offset in the snapshot topic; `chunks`, `bytes`: of the large arrays; `error`: why no snapshot can be used.
    Where `error` is empty, the digest of every chunk and the checksum of the manifest were verified.
    """

    stage: str
    partition: int
    source: str
    low: int
    end: int
    committed: int
    position: int = -1
    logic_version: int = -1
    raw_epoch: int = -1
    raw_offset: int = -1
    manifest: int = -1
    chunks: int = 0
    bytes: int = 0
    outputs: Sequence[Output] = ()
    skips: Sequence[int] = ()
    reset: str = ""
    error: str = ""

    @property
    def lag(self) -> int:
        return self.end - max(self.position, self.low)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"lag": self.lag}


def inspect(settings: KafkaSettings, stage: str, partition: int | None = None) -> Iterator[Inspected]:
    """Each partition of a stage, or one. Raises StageError for a partition that there is not."""
    facts = _facts(settings, stage)
    source = source_of(stage)
    wanted = _partitions(facts[source], stage, partition)
    committed = _committed(settings, stage, source, wanted)
    orders = read_skips(settings)
    with Reader(settings) as reader:
        for number in wanted:
            low, end = reader.bounds(source, number)
            known: dict[str, Any] = {"low": low, "end": end, "committed": committed.get(number, -1)}
            skips = sorted(orders.stage(stage, number, facts[source].epoch))
            reset = orders.resets.get((stage, number))
            yield Inspected(
                stage, number, source, **known, **_stored(reader, stage, number),
                skips=skips, reset=reset.mode if reset else "",
            )  # fmt: skip


def _stored(reader: Reader, stage: str, partition: int) -> dict[str, Any]:
    """The newest snapshot of a partition, read as a worker does that takes it over: all digests are verified."""
    ends = {topic: reader.bounds(topic, partition)[1] for topic in STAGES[stage]}
    try:
        found = newest(reader, state_topic(stage), partition)
    except RefusedError as error:
        return {"error": str(error), "outputs": [Output(topic, -1, end) for topic, end in ends.items()]}
    snapshot = found.snapshot
    written = snapshot.written if snapshot else {}
    outputs = [Output(topic, written[topic].offset if topic in written else -1, end) for topic, end in ends.items()]
    if snapshot is None:
        return {"error": NO_SNAPSHOT, "outputs": outputs}
    return {
        "position": snapshot.position,
        "logic_version": snapshot.logic_version,
        "raw_epoch": snapshot.highest.epoch,
        "raw_offset": snapshot.highest.src,
        "manifest": found.position.manifest,
        "chunks": len(found.position.chunks.named),
        "bytes": sum(chunk.size for chunk in found.position.chunks.named.values()),
        "outputs": outputs,
    }


@dataclass(frozen=True, slots=True)
class Skipped:
    """An order to skip: its key in `platform.facts`, and the dead letters that the record becomes."""

    key: str
    rows: int
    headers: dict[str, str] = field(default_factory=dict)


def skip(settings: KafkaSettings, stage: str, partition: int, offset: int, reason: str, by: str = "") -> Skipped:
    """Order a stage to step over one record of its source. In force at the next assignment of the partition, and when a
    worker meets a record that it cannot read. `stage` may also be a topic that only the sink reads (`DERIVED`).

    Raises StageError where the record is not in the topic, or was applied already: then nothing is changed.
    """
    of_sink = stage in names.DERIVED
    facts = topics.facts(settings, stage) if of_sink else _facts(settings, stage)
    source = stage if of_sink else source_of(stage)
    _partitions(facts[source], stage, partition)
    with Reader(settings) as reader:
        low, end = reader.bounds(source, partition)
        if not low <= offset < end:
            raise StageError(f"offset {offset} is not in {source}[{partition}], which holds offsets {low} to {end - 1}")
        record = reader.one(source, partition, offset)
        if not of_sink:
            _not_applied(settings, reader, stage, facts[names.RAW].epoch, partition, offset, record)
    headers: Any = record.headers() if record is not None else None
    rows = declared(headers).messages if source == names.RAW else 0
    key = skip_key(stage, partition, facts[source].epoch, offset)
    value = Skip(source, reason, _now_ms(), by, rows).encode()
    produce_confirmed(settings, [NewRecord(FACTS, value, key=key)])
    return Skipped(
        key, rows, {name: bytes(value or b"")[:80].decode("utf-8", "replace") for name, value in headers or ()}
    )


def _not_applied(
    settings: KafkaSettings, reader: Reader, stage: str, epoch: int, partition: int, offset: int, record: Any
) -> None:
    """Raise StageError where a worker has got beyond the record: a state that holds it cannot lose it again."""
    where = f"{source_of(stage)}[{partition}] offset {offset}"
    committed = _committed(settings, stage, source_of(stage), [partition]).get(partition, -1)
    try:
        stored = newest(reader, state_topic(stage), partition).snapshot
    except RefusedError:
        stored = None  # a reset will be needed as well; the order waits for it
    position = max(committed, stored.position if stored else -1)
    if position > offset:
        raise StageError(f"{stage} has applied {where} already: its snapshot or commit is at offset {position}")
    src = _src(source_of(stage), epoch, offset, record)
    for topic in STAGES[stage]:
        last = reader.output_end(topic, partition, since=1 << 62).last
        if src is not None and last.src >= src[1] and last.epoch == src[0]:
            raise StageError(
                f"{stage} has applied {where} already: {topic} holds an output of raw offset {last.src}. Wait until its"
                " next snapshot, and look with `millrace stage inspect`"
            )


def _src(source: str, epoch: int, offset: int, record: Any) -> tuple[int, int] | None:
    """(epoch, raw offset) that outputs of a record have; None where it has no provenance: nothing follows from it."""
    if source == names.RAW:
        return epoch, offset
    if record is None:
        return None
    try:
        found = Provenance.parse(dict(record.headers() or ()))
    except ContractError:
        return None
    return found.epoch, found.src


def reset(
    settings: KafkaSettings, stage: str, mode: str, reason: str, partition: int | None = None, by: str = ""
) -> list[int]:
    """Order the next start of each partition, or of one, to ignore its snapshots (`from-oldest`) or a loss
    (`skip-lost`); the partitions. Raises StageError for a partition that there is not."""
    facts = _facts(settings, stage)
    wanted = _partitions(facts[source_of(stage)], stage, partition)
    state = state_topic(stage)
    with LogReader(settings) as log:
        ends = {number: log.bounds(state, number)[1] for number in wanted}
    records = [
        NewRecord(
            FACTS,
            Reset(mode, facts[state].topic_id, ends[number], reason, _now_ms(), by).encode(),
            key=reset_key(stage, number),
        )
        for number in wanted
    ]
    produce_confirmed(settings, records)
    return wanted


def _facts(settings: KafkaSettings, stage: str) -> dict[str, TopicFacts]:
    wanted = (names.RAW, source_of(stage), *STAGES[stage], state_topic(stage))
    return topics.facts(settings, *dict.fromkeys(wanted))


def _partitions(source: TopicFacts, stage: str, partition: int | None) -> list[int]:
    if partition is None:
        return list(range(source.partitions))
    if not 0 <= partition < source.partitions:
        raise StageError(f"{stage} has partitions 0 to {source.partitions - 1}, not {partition}")
    return [partition]


def _committed(settings: KafkaSettings, stage: str, source: str, partitions: Sequence[int]) -> dict[int, int]:
    """Offsets that the stage's group has committed, where it has."""
    asked = ConsumerGroupTopicPartitions(stage, [TopicPartition(source, number) for number in partitions])
    admin = clients.admin(settings)  # held: a client that is collected answers nothing
    try:
        answer = admin.list_consumer_group_offsets([asked], request_timeout=_TIMEOUT_S)[stage].result(_TIMEOUT_S)
    except KafkaException as error:
        raise RetryableError(f"cannot ask for the offsets of group {stage}: {error.args[0].str()}") from None
    except TimeoutError:
        raise RetryableError(f"cannot ask for the offsets of group {stage}: no answer") from None
    return {found.partition: found.offset for found in answer.topic_partitions or () if found.offset >= 0}


def _now_ms() -> int:
    return round(time.time() * 1000)
