"""Counts again what Kafka still holds of each topic, by its headers, and compares it with the ledger.

Both are read in order and compared as they come (sinks/core/recount.py): memory does not grow with the ledger.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Final

from runtime.clickhouse.client import ClickHouse
from runtime.kafka.log import OLDEST, LogReader
from runtime.kafka.skips import read_skips
from runtime.kafka.topics import facts
from runtime.settings import KafkaSettings
from schemas import topics
from schemas.skips import Skip
from sinks.adapters import kafka
from sinks.core.derived import TABLES
from sinks.core.logs import LOGS
from sinks.core.records import Entry
from sinks.core.recount import Counts, Name, differences
from sinks.orders import reader

_RECEIVED: Final = ("received", "platform", "replayed")
_DERIVED: Final = ("rows", "readings", "emitted")


def recount(db: ClickHouse, settings: KafkaSettings) -> Iterator[str]:
    """A line for each record that Kafka holds and that the ledger knows otherwise or not at all."""
    known, orders = facts(settings, *LOGS), read_skips(settings)
    with LogReader(settings) as log:
        for topic in (topics.RAW, *TABLES):
            epoch = known[topic].epoch
            for partition in range(known[topic].partitions):
                yield from _recount(db, log, topic, partition, epoch, orders.topic(topic, partition, epoch))


def _recount(
    db: ClickHouse, log: LogReader, topic: str, partition: int, epoch: int, skips: Mapping[int, Skip]
) -> Iterator[str]:
    records = _records(log, topic, partition, epoch, _furthest(db, topic, partition, epoch) + 1, skips)
    first = next(records, None)
    if first is None:
        return
    for found in differences(chain([first], records), ledger_rows(db, topic, partition, epoch, first[1])):
        ledger = "nothing" if found.ledger is None else found.ledger[0]
        yield f"{topic}[{partition}] offset {found.offset} holds {found.counts[0]}, the ledger says {ledger}"


def _records(
    log: LogReader, topic: str, partition: int, epoch: int, end: int, skips: Mapping[int, Skip]
) -> Iterator[tuple[int, Name, Counts]]:
    """Offset, name and counts of the records that are still held, up to offset `end`."""
    read, counts = reader(LOGS[topic], epoch, f"{topic}[{partition}]", skips), _counts_of(topic)
    oldest, _ = log.bounds(topic, partition)
    if oldest >= end:
        return
    for message in log.records(topic, {partition: (OLDEST, end)}):
        entry = read(kafka.arrival(message))
        if entry is not None:
            yield entry.offset, (entry.origin.epoch, entry.origin.src), counts(entry)


def _counts_of(topic: str) -> Callable[[Entry], Counts]:
    """What a record says by its headers; the columns of the ledger are _RECEIVED and _DERIVED."""
    if topic == topics.RAW:
        return lambda entry: (entry.received.messages, entry.received.platform, entry.received.replayed)
    return lambda entry: (entry.rows - 1, entry.said.get("readings", 0), entry.said.get("emitted", 0))


def _furthest(db: ClickHouse, topic: str, partition: int, epoch: int) -> int:
    """The highest offset of the topic that the ledger has a row of; -1 if it has none."""
    offset = LOGS[topic].ledger.offset
    ((count, furthest),) = db.rows(f"SELECT count(), max({offset}) FROM {_of(topic, partition, epoch)}")
    return furthest if count else -1


def ledger_rows(
    db: ClickHouse, topic: str, partition: int, epoch: int, first: Name = (0, 0)
) -> Iterator[tuple[Name, Counts]]:
    """Name and counts of the ledger's rows about a partition, from name `first` on, in order of the table's key."""
    columns = _RECEIVED if topic == topics.RAW else _DERIVED
    sql = (
        f"SELECT raw_epoch, raw_offset, {', '.join(columns)} FROM {_of(topic, partition, epoch)}"
        f" AND raw_epoch >= {first[0]} AND (raw_epoch > {first[0]} OR raw_offset >= {first[1]})"
        " ORDER BY raw_epoch, raw_partition, intDiv(raw_offset, 1024), raw_offset"
    )
    for batch in db.batches(sql):
        for raw_epoch, raw_offset, *counts in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield (raw_epoch, raw_offset), tuple(counts)


def _of(topic: str, partition: int, epoch: int) -> str:
    ledger = LOGS[topic].ledger
    only = f" AND topic = '{topic}'" if ledger.shared else ""
    return f"{ledger.table} WHERE {ledger.epoch} = {epoch} AND raw_partition = {partition}{only}"
