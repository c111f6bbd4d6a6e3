"""Each service by its own certificate, may do what it must and nothing else: a real Kafka says."""

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from prometheus_client import REGISTRY

from monitoring.watch import kafka as watch
from runtime.kafka import clients, rights, topics
from runtime.kafka.rights import RIGHTS
from runtime.settings import KafkaSettings
from runtime.stage.faust_app import credentials
from schemas.topics import CONTROL, DERIVED, FACTS, RAW, READINGS, STAGES, state_topic
from tests.security.secure import Secure

TOPICS = (FACTS, CONTROL, RAW, READINGS, *DERIVED, *map(state_topic, STAGES))


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    found = Secure(tmp_path_factory.mktemp("secure"))
    found.server.start()
    init = found.settings("init")
    topics.ensure(init, topics.plans(2, 1), 1)
    made, removed = rights.ensure(clients.admin(init))
    assert made == sum(len(list(rights.bindings(name, right))) for name, right in RIGHTS.items())
    assert not removed
    yield found
    found.server.stop()


def _written(settings: KafkaSettings) -> set[str]:
    """Topics that take a record of this service."""
    answers: dict[str, KafkaError | None] = {}
    # idempotent producers stop at the first refusal
    more = {"message.timeout.ms": 10_000, "enable.idempotence": False, "topic.metadata.propagation.max.ms": 0}
    producer = clients.producer(settings, more)

    def answered(error: KafkaError | None, message: Message) -> None:
        answers[message.topic() or ""] = error

    for topic in TOPICS:
        producer.produce(topic, b"{}", key=b"heartbeat/test", partition=0, on_delivery=answered)
    assert producer.flush(20) == 0
    return {topic for topic in TOPICS if _allowed(answers[topic])}


def _allowed(error: KafkaError | None) -> bool:
    assert error is None or "AUTHORIZATION" in error.name(), error
    return error is None


def _read(settings: KafkaSettings) -> set[str]:
    """Topics of which this service gets records, or the answer that there are none."""
    more = {"enable.partition.eof": True, "auto.offset.reset": "earliest"}
    consumer = clients.consumer(settings, rights.READER, more=more)
    known = [topic for topic in TOPICS if _known(consumer, topic)]
    consumer.assign([TopicPartition(topic, 0, 0) for topic in known])
    answers: dict[str, bool] = {}
    deadline = time.monotonic() + 20
    while len(answers) < len(known):
        assert time.monotonic() < deadline, f"no answer about {set(known) - set(answers)}"
        for message in consumer.consume(100, 0.1):
            error = message.error()
            over = error is not None and error.name() == "_PARTITION_EOF"
            answers.setdefault(message.topic() or "", _allowed(None if over else error))
    consumer.close()
    return {topic for topic, allowed in answers.items() if allowed}


def _known(consumer: Consumer, topic: str) -> bool:
    """A consumer hears nothing, ever, of a topic that it may not even ask about."""
    try:
        consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
    except KafkaException as error:  # such a topic looks as if it were not there
        return error.args[0].name() != "_UNKNOWN_PARTITION" and _allowed(error.args[0])
    return True


@pytest.mark.parametrize("service", RIGHTS)
def test_a_service_writes_its_own_topics_and_no_other(kafka: Secure, service: str) -> None:
    settings = kafka.settings(service)
    assert _written(settings) == set(RIGHTS[service].writes)


@pytest.mark.parametrize("service", RIGHTS)
def test_a_service_reads_what_it_must_and_nothing_else(kafka: Secure, service: str) -> None:
    settings = kafka.settings(service)
    assert _read(settings) == set(RIGHTS[service].reads)


@pytest.mark.parametrize(("service", "may"), [("sink", True), ("bridge", False)])
def test_a_service_asks_only_for_its_own_groups(kafka: Secure, service: str, may: bool) -> None:
    wanted = ConsumerGroupTopicPartitions("millrace-sink", [TopicPartition(RAW, 0)])
    admin = clients.admin(kafka.settings(service))
    (asked,) = admin.list_consumer_group_offsets([wanted]).values()
    if may:
        assert asked.result(10).topic_partitions == wanted.topic_partitions
    else:
        with pytest.raises(KafkaException, match="GROUP_AUTHORIZATION_FAILED"):
            asked.result(10)


def test_the_watch_sees_groups_that_it_may_not_join(kafka: Secure) -> None:
    wanted = ConsumerGroupTopicPartitions("millrace-sink", [TopicPartition(RAW, 0, 5)])
    admin = clients.admin(kafka.settings("sink"))
    (done,) = admin.alter_consumer_group_offsets([wanted]).values()
    done.result(10)
    watch.Kafka(kafka.settings("watch")).look()
    lag = REGISTRY.get_sample_value("millrace_kafka_group_lag_records", {"group": "millrace-sink", "topic": RAW})
    assert lag is not None
    admin = clients.admin(kafka.settings("watch"))
    (refused,) = admin.alter_consumer_group_offsets([wanted]).values()
    (answer,) = refused.result(10).topic_partitions
    assert answer.error is not None and "AUTHORIZATION" in answer.error.name()


def test_nobody_comes_in_without_a_certificate_of_the_services_authority(kafka: Secure) -> None:
    assert not _written(KafkaSettings(kafka_bootstrap=kafka.plain))
    device = {
        "bootstrap.servers": kafka.secure,
        "security.protocol": "ssl",
        "ssl.ca.location": str(kafka.keys / "bridge/kafka-ca.crt"),
        "ssl.certificate.location": str(kafka.keys / "bridge/client.crt"),
        "ssl.key.location": str(kafka.keys / "bridge/client.key"),
        "log_level": 0,
    }
    with pytest.raises(KafkaException):
        AdminClient(device).list_topics(timeout=2)
    without = {name: value for name, value in device.items() if "certificate" not in name and "key" not in name}
    with pytest.raises(KafkaException):
        Producer(without).list_topics(timeout=2)


def test_rights_that_are_no_longer_wanted_are_taken_back(kafka: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = clients.admin(kafka.settings("init"))
    assert rights.ensure(admin) == (0, 0)
    monkeypatch.setitem(RIGHTS, "bridge", rights.Rights())
    removed = rights.ensure(admin)
    monkeypatch.undo()
    again = rights.ensure(admin)
    assert removed[0] == again[1] == 0
    assert removed[1] == again[0] == 3


def test_faust_takes_the_same_properties(kafka: Secure) -> None:
    assert credentials(clients.common(kafka.settings("access"))).context is not None
