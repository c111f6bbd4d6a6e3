"""Topics of a test's own on the session's broker."""

import secrets
from collections.abc import Callable

import pytest
from confluent_kafka.admin import NewTopic

from runtime.kafka import clients
from runtime.settings import KafkaSettings
from tests.servers import KafkaServer

NewTopicName = Callable[..., str]


@pytest.fixture
def settings(kafka: KafkaServer) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap=kafka.bootstrap)


@pytest.fixture
def topic(settings: KafkaSettings) -> NewTopicName:
    """Creates a topic: `topic(partitions=1, **config)`; dots of a setting's name are underscores here."""

    admin = clients.admin(settings)

    def create(partitions: int = 1, **config: object) -> str:
        name = f"t-{secrets.token_hex(4)}"
        named = {key.replace("_", "."): str(value) for key, value in config.items()}
        admin.create_topics([NewTopic(name, partitions, 1, config=named)])[name].result(15)
        return name

    return create
