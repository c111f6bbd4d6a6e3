"""What Kafka reports: brokers, leaderless and under-replicated partitions, and the lag of consumer groups."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from monitoring.watch import metrics
from runtime.kafka import clients
from runtime.settings import KafkaSettings

_TIMEOUT_S: Final = 5.0
STATES: Final = ("whole", "under_replicated", "leaderless")
Key = tuple[str, int]


class Kafka:
    """Asks one cluster. Raises KafkaException while it does not answer."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._admin: AdminClient | None = None
        self._shown: set[tuple[str, str]] = set()

    def look(self) -> None:
        """With a new client after a failure: librdkafka 2.16 hangs after a broker died in the middle of a response."""
        admin = self._admin or AdminClient(clients.common(self._settings) | {"log_level": 0})
        self._admin = None
        self._look_at_partitions(admin)
        self._look_at_groups(admin)
        self._admin = admin

    def _look_at_partitions(self, admin: AdminClient) -> None:
        found = admin.list_topics(timeout=_TIMEOUT_S)
        metrics.BROKERS.set(len(found.brokers))
        states = Counter(
            state(p.leader, p.replicas, p.isrs) for t in found.topics.values() for p in t.partitions.values()
        )
        for name in STATES:
            metrics.PARTITIONS.labels(name).set(states[name])

    def _look_at_groups(self, admin: AdminClient) -> None:
        listed = admin.list_consumer_groups(request_timeout=_TIMEOUT_S).result(2 * _TIMEOUT_S)
        committed = {group.group_id: self._committed(admin, group.group_id) for group in listed.valid}
        keys = {key for offsets in committed.values() for key in offsets}
        asked = {TopicPartition(*key): OffsetSpec.latest() for key in keys}
        answers = admin.list_offsets(asked, request_timeout=_TIMEOUT_S) if asked else {}
        ends = {(tp.topic, tp.partition): f.result(2 * _TIMEOUT_S).offset for tp, f in answers.items()}
        self._show({group: lags(offsets, ends) for group, offsets in committed.items()})

    def _committed(self, admin: AdminClient, group: str) -> dict[Key, int]:
        (future,) = admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group)], request_timeout=_TIMEOUT_S
        ).values()
        try:
            found = future.result(2 * _TIMEOUT_S).topic_partitions
        except KafkaException as error:
            if error.args[0].name() == "GROUP_ID_NOT_FOUND":  # it went between the two questions
                return {}
            raise
        return {(tp.topic, tp.partition): tp.offset for tp in found if tp.offset >= 0}

    def _show(self, by_group: Mapping[str, Mapping[str, int]]) -> None:
        now = {(group, topic) for group, by_topic in by_group.items() for topic in by_topic}
        for gone in self._shown - now:
            metrics.GROUP_LAG.remove(*gone)
        self._shown = now
        for group, topic in now:
            metrics.GROUP_LAG.labels(group, topic).set(by_group[group][topic])


def state(leader: int, replicas: Any, in_sync: Any) -> str:
    """Of a partition: one of STATES."""
    if leader < 0:
        return "leaderless"
    return "under_replicated" if len(in_sync) < len(replicas) else "whole"


def lags(committed: Mapping[Key, int], ends: Mapping[Key, int]) -> dict[str, int]:
    """Records not committed, by topic; partitions whose end is not known are left out."""
    found: Counter[str] = Counter()
    for (topic, partition), offset in committed.items():
        if (topic, partition) in ends:
            found[topic] += max(0, ends[topic, partition] - offset)
    return dict(found)
