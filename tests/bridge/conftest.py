"""A Kafka broker of the bridges' own, with Millrace's topics, and what reads telemetry.raw."""

from collections.abc import Iterator

import pytest

from runtime.kafka import topics
from runtime.settings import KafkaSettings
from tests.bridge.raw_reader import RawReader
from tests.servers import KafkaServer

PARTITIONS = 3


@pytest.fixture(scope="package")
def spine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """Kafka with the topics of the platform."""
    server = KafkaServer(tmp_path_factory.mktemp("spine"))
    server.start()
    try:
        topics.ensure(KafkaSettings(kafka_bootstrap=server.bootstrap), topics.plans(PARTITIONS, 1), 1)
        yield server
    finally:
        server.kill()


@pytest.fixture
def raw(spine: KafkaServer) -> Iterator[RawReader]:
    """Records of telemetry.raw written from now on."""
    reader = RawReader(KafkaSettings(kafka_bootstrap=spine.bootstrap), PARTITIONS)
    yield reader
    reader.close()
