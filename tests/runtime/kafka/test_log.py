"""The one reader of logs: to an offset or to the end as of now, over gaps, markers and open transactions."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from runtime.errors import RetryableError
from runtime.kafka import clients
from runtime.kafka.log import NEWEST, OLDEST, LogReader
from runtime.kafka.produce import NewRecord, produce_confirmed
from runtime.settings import KafkaSettings
from tests.runtime.kafka.conftest import NewTopicName
from tests.support.service import until
from tests.support.waiting import wait_for


@pytest.fixture
def log(settings: KafkaSettings) -> Iterator[LogReader]:
    with LogReader(settings) as reader:
        yield reader


def transactional(settings: KafkaSettings, name: str) -> Producer:
    producer = clients.producer(settings, {"transactional.id": name, "transaction.timeout.ms": 60_000})
    producer.init_transactions(30)
    return producer


def values(log: LogReader, topic: str, start: int = OLDEST, end: int = NEWEST) -> list[bytes | None]:
    return [message.value() for message in log.records(topic, {0: (start, end)})]


def write(settings: KafkaSettings, topic: str, *values: bytes | None, key: str = "k") -> None:
    produce_confirmed(settings, [NewRecord(topic, value, key=key, partition=0) for value in values])


def test_a_span_is_read_from_its_first_offset_to_before_its_last(
    settings: KafkaSettings, topic: NewTopicName, log: LogReader
) -> None:
    name = topic()
    write(settings, name, *(b"%d" % n for n in range(10)))
    assert values(log, name) == [b"%d" % n for n in range(10)]
    assert values(log, name, 3, 6) == [b"3", b"4", b"5"]
    assert values(log, name, 10) == []
    assert values(log, name, 4, 4) == []


def test_a_read_that_was_abandoned_does_not_end_the_next_one(
    settings: KafkaSettings, topic: NewTopicName, log: LogReader
) -> None:
    name, records = topic(), 30_000
    produce_confirmed(settings, [NewRecord(name, b"%d" % n, partition=0) for n in range(records)])
    abandoned = log.read(name, {0: (OLDEST, NEWEST)})
    next(abandoned)
    found = log.records(name, {0: (OLDEST, NEWEST)})
    assert next(found).offset() == 0
    abandoned.close()  # type: ignore[attr-defined]
    assert [message.offset() for message in found] == list(range(1, records))


def test_several_partitions_are_read_each_to_its_own_end(
    settings: KafkaSettings, topic: NewTopicName, log: LogReader
) -> None:
    name = topic(partitions=3)
    produce_confirmed(settings, [NewRecord(name, b"%d" % n, partition=n % 2) for n in range(1_000)])
    spans = {0: (OLDEST, NEWEST), 1: (100, 200), 2: (OLDEST, NEWEST)}
    found = [(message.partition(), message.offset()) for message in log.records(name, spans)]
    assert [offset for partition, offset in found if partition == 0] == list(range(500))
    assert [offset for partition, offset in found if partition == 1] == list(range(100, 200))
    assert len(found) == 600


def test_markers_and_aborted_records_at_the_end_do_not_make_a_read_wait(
    settings: KafkaSettings, topic: NewTopicName
) -> None:
    name = topic()
    producer = transactional(settings, name)
    for value, commits in ((b"kept", True), (b"aborted", False)):
        producer.begin_transaction()
        producer.produce(name, value, partition=0)
        if commits:
            producer.commit_transaction(30)
        else:
            producer.flush(30)
            producer.abort_transaction(30)
    with LogReader(settings, timeout_s=20) as log:
        assert values(log, name) == [b"kept"]
        assert values(log, name, 2) == []


def test_records_of_an_open_transaction_are_not_seen_and_not_waited_for(
    settings: KafkaSettings, topic: NewTopicName
) -> None:
    name = topic()
    write(settings, name, b"before")
    producer = transactional(settings, name)
    producer.begin_transaction()
    producer.produce(name, b"open", partition=0)
    assert producer.flush(30) == 0
    with LogReader(settings, timeout_s=20) as log:
        assert values(log, name) == [b"before"]
        producer.commit_transaction(30)
        # the commit is decided when the call returns; Kafka writes its marker into the partition a moment later
        wait_for(lambda: values(log, name) == [b"before", b"open"], "the committed record")


def test_what_compaction_removed_at_the_end_does_not_make_a_read_wait(
    settings: KafkaSettings, topic: NewTopicName
) -> None:
    name = topic(
        cleanup_policy="compact",
        segment_ms=100,
        min_cleanable_dirty_ratio=0.001,
        delete_retention_ms=0,
        min_compaction_lag_ms=0,
    )
    write(settings, name, *(b"%d" % n for n in range(100)), key="a")
    write(settings, name, None, key="a")
    with LogReader(settings, timeout_s=20) as log:

        def compacted() -> bool:
            write(settings, name, b"x", key="roll")  # a new segment, so that the one before can be cleaned
            return all(message.key() == b"roll" for message in log.records(name, {0: (OLDEST, NEWEST)}))

        until(compacted, 90, "the log cleaner has removed key a")
        low, high = log.bounds(name, 0)
        assert values(log, name, 0, 101) == [], "offsets that are gone, at the end of the span"
        assert low == 0
        assert high > 101
        assert log.record(name, 0, 50) is None


def test_what_does_not_exist_is_an_error_with_its_name(log: LogReader, settings: KafkaSettings) -> None:
    assert log.partitions("nowhere") == []
    with pytest.raises(RetryableError, match="nowhere"):
        values(log, "nowhere")


def test_a_read_fails_when_nothing_arrives_any_more(settings: KafkaSettings, topic: NewTopicName) -> None:
    name = topic()
    write(settings, name, b"only")
    with LogReader(settings, timeout_s=0.5) as log, pytest.raises(RetryableError, match=rf"{name}\[0\] up to 1000"):
        values(log, name, 0, 1_000)


def test_following_a_log_gives_an_empty_batch_while_nothing_comes(
    settings: KafkaSettings, topic: NewTopicName, log: LogReader
) -> None:
    name = topic()
    write(settings, name, b"1")
    batches = log.follow(name, {0: 0}, wait_s=0.1)
    assert until(lambda: [m.value() for m in next(batches)], 20, "the first record") == [b"1"]
    assert next(batches) == []
    write(settings, name, b"2")
    assert until(lambda: [m.value() for m in next(batches)], 20, "the second record") == [b"2"]
