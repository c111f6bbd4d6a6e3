"""The one way to write and know that Kafka has it."""

import secrets
import time
from collections.abc import Callable

import pytest
from confluent_kafka.admin import NewTopic

from runtime.errors import RetryableError
from runtime.kafka import clients
from runtime.kafka.log import NEWEST, OLDEST, LogReader
from runtime.kafka.produce import Deliveries, NewRecord, produce_confirmed
from runtime.settings import KafkaSettings
from tests.runtime.kafka.conftest import NewTopicName
from tests.servers import KafkaServer


def test_more_records_than_the_producer_queues_are_written_without_a_buffer_error(
    settings: KafkaSettings, topic: NewTopicName
) -> None:
    name = topic()
    written = produce_confirmed(settings, (NewRecord(name, b"%d" % n, partition=0) for n in range(250_000)))
    assert written == {(name, 0): 249_999}
    with LogReader(settings) as log:
        assert sum(len(batch) for batch in log.read(name, {0: (OLDEST, NEWEST)})) == 250_000


def test_a_refused_record_is_an_error_with_counts(settings: KafkaSettings, topic: NewTopicName) -> None:
    name = topic(max_message_bytes=1_000)
    records = [NewRecord(name, secrets.token_bytes(size), partition=0) for size in (10, 10, 5_000)]
    with pytest.raises(RetryableError, match=r"acknowledged \d of 3 records: .*too large"):
        produce_confirmed(settings, records)


def test_a_broker_that_is_away_is_an_error_and_nothing_is_written_later(
    kafka_fresh: Callable[[], KafkaServer],
) -> None:
    server = kafka_fresh()
    settings = KafkaSettings(kafka_bootstrap=server.bootstrap)
    admin = clients.admin(settings)
    admin.create_topics([NewTopic("gone", 1, 1)])["gone"].result(15)
    producer = clients.producer(settings)
    out = Deliveries(producer, timeout_s=5.0)
    out.send(NewRecord("gone", b"first", partition=0))
    assert out.wait() == {("gone", 0): 0}
    server.stop()
    out.send(NewRecord("gone", b"second", partition=0))
    begun = time.monotonic()
    with pytest.raises(RetryableError, match="acknowledged 1 of 2 records: no answer for 5 s"):
        out.wait()
    assert time.monotonic() - begun >= 5.0
    server.start()
    with LogReader(settings) as log:
        assert [m.value() for m in log.records("gone", {0: (OLDEST, NEWEST)})] == [b"first"]
