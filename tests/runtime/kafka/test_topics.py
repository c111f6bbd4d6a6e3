"""Identities of topics: where they live, and platforms that older releases made."""

from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from runtime.errors import RefusedError, RetryableError
from runtime.kafka import clients, topics
from runtime.kafka.produce import NewRecord, produce_confirmed
from runtime.settings import KafkaSettings
from schemas import topics as names
from schemas.control import TopicFacts, topic_key
from tests.servers import KafkaServer
from tests.support.service import until

PLANS = topics.plans(2, 1)


@pytest.fixture(scope="module")
def fresh(kafka_fresh: Callable[[], KafkaServer]) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap=kafka_fresh().bootstrap)


def older_platform(settings: KafkaSettings) -> dict[str, TopicFacts]:
    """As commit bda7938 leaves it: no `platform.facts`, identities in `platform.control`."""
    plans = [plan for plan in PLANS if plan.name != names.FACTS]
    admin = clients.admin(settings)
    new = [NewTopic(p.name, p.partitions, 1, config=p.config) for p in plans]
    for future in admin.create_topics(new).values():
        future.result(15)
    live = topics.identities(admin, [p.name for p in plans])
    facts = {name: TopicFacts(topic_id, 3, partitions) for name, (topic_id, partitions) in live.items()}
    produce_confirmed(settings, [NewRecord(names.CONTROL, f.encode(), key=topic_key(n)) for n, f in facts.items()])
    return facts


def test_an_older_platform_keeps_its_epochs_and_both_places_agree(fresh: KafkaSettings) -> None:
    before = older_platform(fresh)
    with pytest.raises(RetryableError, match="millrace init"):
        topics.facts(fresh, names.RAW)
    found = topics.ensure(fresh, PLANS, 1)
    assert {name: found[name] for name in before} == before
    assert found[names.FACTS].epoch == 0
    assert topics.recorded(fresh) == found
    control = topics.read_control(fresh)
    for name, one in found.items():
        assert TopicFacts.decode(topic_key(name), control[topic_key(name)][1]) == one
    assert topics.ensure(fresh, PLANS, 1) == found, "a second start changes nothing"


def test_a_topic_that_the_older_release_registered_after_a_rollback_is_not_counted_again(fresh: KafkaSettings) -> None:
    topics.ensure(fresh, PLANS, 1)
    admin, before = clients.admin(fresh), topics.recorded(fresh)[names.PRESENCE]
    admin.delete_topics([names.PRESENCE])[names.PRESENCE].result(15)
    (plan,) = [plan for plan in PLANS if plan.name == names.PRESENCE]
    _create(admin, plan)
    (topic_id, partitions) = topics.identities(admin, [names.PRESENCE])[names.PRESENCE]
    by_older = TopicFacts(topic_id, before.epoch + 1, partitions)
    produce_confirmed(fresh, [NewRecord(names.CONTROL, by_older.encode(), key=topic_key(names.PRESENCE))])
    assert topics.ensure(fresh, PLANS, 1)[names.PRESENCE] == by_older
    assert topics.recorded(fresh)[names.PRESENCE] == by_older


def test_a_recreated_topic_gets_the_next_epoch_even_platform_control_itself(fresh: KafkaSettings) -> None:
    before = topics.ensure(fresh, PLANS, 1)
    admin = clients.admin(fresh)
    admin.delete_topics([names.CONTROL])[names.CONTROL].result(15)
    (plan,) = [plan for plan in PLANS if plan.name == names.CONTROL]
    _create(admin, plan)
    found = topics.ensure(fresh, PLANS, 1)
    assert found[names.CONTROL].epoch == before[names.CONTROL].epoch + 1
    assert found[names.RAW] == before[names.RAW]


def test_a_broken_identity_never_starts_epochs_again(fresh: KafkaSettings) -> None:
    before, key = topics.ensure(fresh, PLANS, 1), topic_key(names.RAW)
    broken = b'{"epoch": "x"}'
    produce_confirmed(fresh, [NewRecord(names.FACTS, broken, key=key), NewRecord(names.CONTROL, broken, key=key)])
    with pytest.raises(RetryableError, match=names.RAW):
        topics.facts(fresh, names.RAW)
    with pytest.raises(RefusedError, match=r"epoch of topic telemetry\.raw is not known"):
        topics.ensure(fresh, PLANS, 1)
    produce_confirmed(fresh, [NewRecord(names.CONTROL, before[names.RAW].encode(), key=key)])
    assert topics.ensure(fresh, PLANS, 1) == before, "taken from the copy"
    assert topics.facts(fresh, names.RAW)[names.RAW] == before[names.RAW]


def _create(admin: AdminClient, plan: topics.Plan) -> None:
    """The deletion of the topic before takes a moment."""

    def created() -> bool:
        future = admin.create_topics([NewTopic(plan.name, plan.partitions, 1, config=plan.config)])[plan.name]
        return future.exception(15) is None

    until(created, 30, f"{plan.name} can be created again")
