"""Topics: created with the settings the promises need, and registered by id, so that a re-created one is noticed.

`ensure` is idempotent and may run in several processes at once. The identity of each topic (its Kafka topic id, an
epoch that counts how often it was created, its number of partitions) lives in `platform.facts`, a compacted topic of a
few records: every service reads it when it starts.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic, TopicDescription

from runtime.errors import RefusedError, RetryableError
from runtime.kafka import clients
from runtime.kafka.log import NEWEST, OLDEST, LogReader
from runtime.kafka.produce import NewRecord, produce_confirmed
from runtime.retry import retry
from runtime.settings import KafkaSettings
from schemas import topics as names
from schemas.control import TopicFacts, topic_key, topic_of
from schemas.errors import ContractError

log = logging.getLogger(__name__)

_TIMEOUT_S = 15.0
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Plan:
    """A topic as it must be."""

    name: str
    partitions: int
    config: dict[str, str]


def plans(
    partitions: int, replication: int, retention_ms: int = 7 * DAY_MS, stages: Iterable[str] = tuple(names.STAGES)
) -> list[Plan]:
    """Every topic of the platform. Readings may be larger than raw, so that no record can block its partition."""
    durable = {"min.insync.replicas": str(max(1, replication - 1)), "message.timestamp.type": "LogAppendTime"}
    stream = durable | {"retention.ms": str(retention_ms), "compression.type": "producer"}
    compacted = durable | {
        "cleanup.policy": "compact",
        "max.message.bytes": str(32 << 20),
        "segment.bytes": str(64 << 20),
    }
    return [
        Plan(names.FACTS, 1, compacted | {"max.message.bytes": str(1 << 20)}),
        Plan(names.CONTROL, 1, compacted | {"max.message.bytes": str(1 << 20)}),
        Plan(names.RAW, partitions, stream | {"max.message.bytes": str(2 << 20)}),
        Plan(names.READINGS, partitions, stream | {"max.message.bytes": str(16 << 20)}),
        *(Plan(name, partitions, stream | {"max.message.bytes": str(16 << 20)}) for name in names.DERIVED),
        *(Plan(names.state_topic(s), partitions, compacted | {"max.message.bytes": str(32 << 20)}) for s in stages),
    ]


def ensure(settings: KafkaSettings, wanted: list[Plan], replication: int) -> dict[str, TopicFacts]:
    """Create the topics that are missing and record their identity. Raises RefusedError where one differs.

    `wanted` must contain `platform.facts` and `platform.control`: identities are written there. A platform of an older
    release, which has no `platform.facts`, gets it with the identities found in `platform.control`.
    """
    admin = clients.admin(settings)
    new = [NewTopic(p.name, p.partitions, replication, config=p.config) for p in wanted]
    for name, future in admin.create_topics(new, operation_timeout=_TIMEOUT_S).items():
        try:
            future.result(_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise RetryableError(f"cannot create topic {name}: {error.args[0].str()}") from error
    ids = identities(admin, [p.name for p in wanted])
    for plan in wanted:
        if ids[plan.name][1] != plan.partitions:
            raise RefusedError(
                f"topic {plan.name} has {ids[plan.name][1]} partitions, settings say {plan.partitions}: the number of"
                " partitions is fixed for a topic's life; set it back or move the data to a new platform"
            )
    return _recorded_anew(settings, ids)


class MissingTopicError(RetryableError):
    """Kafka has no such topics."""

    def __init__(self, topics: list[str]) -> None:
        super().__init__(f"Kafka has no topics {', '.join(topics)}: `millrace init` creates them")
        self.topics = topics


def identities(admin: AdminClient, wanted: list[str]) -> dict[str, tuple[str, int]]:
    """(topic id, number of partitions) of each topic as Kafka has it now. Raises MissingTopicError where it has none
    after some seconds, which a new topic takes to be known everywhere, and RetryableError if it does not answer."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            found = admin.describe_topics(TopicCollection(wanted), request_timeout=_TIMEOUT_S)
            done = {name: future.result(_TIMEOUT_S) for name, future in found.items()}
            return {name: (str(d.topic_id), len(d.partitions)) for name, d in done.items()}
        except KafkaException as error:
            if time.monotonic() > deadline:
                missing = _missing(found)
                if missing:
                    raise MissingTopicError(missing) from error
                raise RetryableError(f"cannot describe topics: {error.args[0].str()}") from error
            time.sleep(0.2)


def _missing(described: Mapping[str, Future[TopicDescription]]) -> list[str]:
    """The topics of which Kafka has said that there are none."""
    errors = {name: future.exception() for name, future in described.items() if future.done()}
    return [
        name
        for name, error in errors.items()
        if isinstance(error, KafkaException) and error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    ]


def record(settings: KafkaSettings, new: Mapping[str, TopicFacts]) -> None:
    """Record identities of topics. Raises RetryableError when Kafka does not acknowledge them.

    They are also written to `platform.control`, where releases before 0.2 read them.
    """
    places = (names.FACTS, names.CONTROL)
    produce_confirmed(
        settings, [NewRecord(place, f.encode(), key=topic_key(name)) for name, f in new.items() for place in places]
    )


def _recorded_anew(settings: KafkaSettings, live: dict[str, tuple[str, int]]) -> dict[str, TopicFacts]:
    """Identities of topics that exist; those that were not known yet are recorded."""
    known, broken = _decoded(newest_values(settings, names.FACTS))
    older: dict[str, TopicFacts] = {}
    if any(name not in known or known[name].topic_id != topic_id for name, (topic_id, _) in live.items()):
        older, _ = _decoded(newest_values(settings, names.CONTROL))
    for name in sorted(broken & live.keys() - older.keys()):
        raise RefusedError(
            f"the epoch of topic {name} is not known: its record in {names.FACTS} is broken and {names.CONTROL} has no"
            f' copy. Write {topic_key(name)!r} there as {{"topic_id": "{live[name][0]}", "epoch": E, "partitions":'
            f" {live[name][1]}}}; E is the highest epoch that rows of this topic have in ClickHouse"
        )
    found = {name: _identity(topic, known.get(name), older.get(name)) for name, topic in live.items()}
    new = {name: one for name, one in found.items() if known.get(name) != one}
    if new:
        record(settings, new)
    return found


def _identity(live: tuple[str, int], known: TopicFacts | None, older: TopicFacts | None) -> TopicFacts:
    """The identity of a topic: as recorded, in `platform.facts` or where older releases did, or that of a new topic."""
    topic_id, partitions = live
    recorded_before = [one for one in (known, older) if one is not None]
    for one in recorded_before:
        if one.topic_id == topic_id:
            return one
    return TopicFacts(topic_id, 1 + max((one.epoch for one in recorded_before), default=-1), partitions)


def newest_values(settings: KafkaSettings, topic: str) -> dict[str, tuple[int, bytes]]:
    """The newest (offset, value) of every key of a topic of one partition; tombstones are left out.

    Raises RetryableError when Kafka does not answer. A key that is no UTF-8 is read with replacement characters.
    """
    found: dict[str, tuple[int, bytes]] = {}
    with LogReader(settings) as log:
        for message in log.records(topic, {0: (OLDEST, NEWEST)}):
            key, value = (message.key() or b"").decode("utf-8", "replace"), message.value()
            if value is None:
                found.pop(key, None)
            else:
                found[key] = (message.offset() or 0, value)
    return found


def read_control(settings: KafkaSettings) -> dict[str, tuple[int, bytes]]:
    """`newest_values` of `platform.control`."""
    return newest_values(settings, names.CONTROL)


def recorded(settings: KafkaSettings) -> dict[str, TopicFacts]:
    """The recorded identity of every topic. Reads `platform.facts` only, which is small. Raises RetryableError."""
    return _decoded(newest_values(settings, names.FACTS))[0]


def _decoded(values: Mapping[str, tuple[int, bytes]]) -> tuple[dict[str, TopicFacts], set[str]]:
    """Identities by topic, and the topics whose record is broken."""
    found, broken = {}, set()
    for key, (offset, value) in values.items():
        topic = topic_of(key)
        if topic is not None:
            try:
                found[topic] = TopicFacts.decode(key, value)
            except ContractError as error:
                log.error("offset %d: an identity of a topic is ignored: %s", offset, error)
                broken.add(topic)
    return found, broken


def facts(settings: KafkaSettings, *wanted: str) -> dict[str, TopicFacts]:
    """Identities of topics as recorded. Raises RetryableError while `millrace init` has not run."""
    try:
        known = recorded(settings)
    except RetryableError as error:
        raise RetryableError(f"{error}. Is Kafka up, and did `millrace init` run?") from error
    missing = [name for name in wanted if name not in known]
    if missing:
        raise RetryableError(f"topics {', '.join(missing)} are not registered yet: run `millrace init` first")
    return {name: known[name] for name in wanted}


def wait_for_facts(settings: KafkaSettings, *wanted: str) -> dict[str, TopicFacts]:
    """`facts`; waits, logging, while Kafka is unavailable or `millrace init` has not run. Blocks."""
    return retry(lambda: facts(settings, *wanted), "topic facts")


def partitions_of_raw(settings: KafkaSettings) -> int:
    """Number of partitions of telemetry.raw; waits for it. Raises RefusedError when it is not the one it was created
    with. Blocks."""
    created = wait_for_facts(settings, names.RAW)[names.RAW].partitions
    found = len(clients.admin(settings).list_topics(names.RAW, timeout=_TIMEOUT_S).topics[names.RAW].partitions)
    if found != created:
        raise RefusedError(
            f"{names.RAW} has {found} partitions but was created with {created}: devices would change partition;"
            " restore it"
        )
    return created
