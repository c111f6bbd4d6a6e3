"""`millrace ledger verify`: walks all of the ledger, compares it with the tables, and counts again what Kafka holds."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from runtime.clickhouse.errors import translated
from runtime.errors import RetryableError
from runtime.kafka import clients
from runtime.kafka.topics import facts
from runtime.settings import KafkaSettings
from schemas import topics
from sinks.adapters import kafka
from sinks.core.derived import TABLES
from sinks.core.logs import LOGS
from sinks.core.records import Arrival, Entry
from sinks.ledger import ledger_totals

_SILENCE_S: Final = 15.0

_CHECKS: Final = {
    "record stands twice in {0}": """
        SELECT raw_epoch, raw_partition, raw_offset, count() AS n FROM {0}
        GROUP BY raw_epoch, raw_partition, raw_offset HAVING n > 1 ORDER BY ALL LIMIT 5""",
    "{0} has a gap before": """
        SELECT raw_epoch, raw_partition, raw_offset, before FROM
        (
            SELECT raw_epoch, raw_partition, raw_offset, any(raw_offset) OVER (
                PARTITION BY raw_epoch, raw_partition ORDER BY raw_offset ROWS BETWEEN 1 PRECEDING AND 1 PRECEDING
            ) AS before, row_number() OVER (PARTITION BY raw_epoch, raw_partition ORDER BY raw_offset) AS place
            FROM {0}
        )
        WHERE place > 1 AND raw_offset > before + 1 ORDER BY ALL LIMIT 5""",
}
_DERIVED_CHECKS: Final = {
    "record stands twice in ledger_derived": """
        SELECT topic, raw_epoch, raw_partition, raw_offset, count() AS n FROM ledger_derived
        GROUP BY topic, raw_epoch, raw_partition, raw_offset HAVING n > 1 ORDER BY ALL LIMIT 5""",
    "ledger_derived has a gap before": """
        SELECT topic, raw_epoch, raw_partition, raw_offset, prev FROM
        (
            SELECT topic, raw_epoch, raw_partition, raw_offset, prev, any(toInt64(raw_offset)) OVER (
                PARTITION BY topic, raw_epoch, raw_partition ORDER BY raw_offset
                ROWS BETWEEN 1 PRECEDING AND 1 PRECEDING
            ) AS before, row_number() OVER (PARTITION BY topic, raw_epoch, raw_partition ORDER BY raw_offset) AS place
            FROM ledger_derived
        )
        WHERE place > 1 AND prev != before ORDER BY ALL LIMIT 5""",
    "ledger_derived has no record for the tick": """
        SELECT t.topic, f.raw_epoch, f.raw_partition, f.raw_offset, 'tick' FROM ledger_facts AS f
        GLOBAL JOIN
        (
            SELECT topic, raw_epoch, raw_partition, min(raw_offset) AS first, max(raw_offset) AS last
            FROM ledger_derived GROUP BY topic, raw_epoch, raw_partition
        ) AS t USING (raw_epoch, raw_partition)
        WHERE f.kind = 'tick' AND f.raw_offset BETWEEN t.first AND t.last
            AND (t.topic, f.raw_epoch, f.raw_partition, f.raw_offset) GLOBAL NOT IN
                (SELECT topic, raw_epoch, raw_partition, raw_offset FROM ledger_derived)
        ORDER BY ALL LIMIT 5""",
}
_COUNTS: Final = """
    SELECT raw_epoch, raw_partition, raw_offset, sum(said) AS facts, sum(held) AS rows FROM
    (
        SELECT raw_epoch, raw_partition, raw_offset, {fact} AS said, 0 AS held FROM {ledger}
        WHERE {known}
        UNION ALL
        SELECT raw_epoch, raw_partition, raw_offset, 0, count() FROM ({tables})
        WHERE at > {kept} AND (raw_epoch, raw_partition, raw_offset) GLOBAL IN
            (SELECT raw_epoch, raw_partition, raw_offset FROM {ledger} WHERE {known})
        GROUP BY raw_epoch, raw_partition, raw_offset
    )
    GROUP BY raw_epoch, raw_partition, raw_offset HAVING facts != rows ORDER BY ALL LIMIT 5"""
KEPT: Final = """now() - toIntervalDay((
    SELECT toUInt32OrZero(extract(engine_full, 'toIntervalDay\\\\((\\\\d+)\\\\)')) FROM system.tables
    WHERE database IN (currentDatabase(), currentDatabase() || '_local') AND name = 'readings'
        AND engine LIKE '%MergeTree'))"""

HOURS: Final = """
    SELECT toString(hour), sum(h) AS hours, sum(p) AS partials FROM
    (
        SELECT toStartOfHour(window_start) AS hour, 0 AS h, sum(count) AS p, max(stored_at) AS newest
        FROM aggregates_1m GROUP BY hour
        UNION ALL
        SELECT toDateTime(window_start), sum(count), 0, toDateTime64(0, 3, 'UTC') FROM aggregates_1h FINAL
        GROUP BY window_start
    )
    WHERE hour > {kept} + INTERVAL 1 DAY
    GROUP BY hour HAVING hours != partials
        AND max(newest) < (SELECT max(refreshed_at) - INTERVAL 5 MINUTE FROM aggregates_1h)
    ORDER BY ALL LIMIT 5"""


def verify(client: Any, settings: KafkaSettings) -> Iterator[str]:
    """Findings of a walk over all rows, one line each; none when the ledger is right.

    No record twice, no gaps, a record for each tick, as many rows in the tables as each record says (inside retention),
    each hour of windows as its partials add up, and each record that Kafka still holds equal to its row in the ledger.
    """
    for table in ("ledger_received", "ledger_facts"):
        for what, sql in _CHECKS.items():
            for row in _rows(client, sql.format(table)):
                yield f"{what.format(table)}: epoch {row[0]} partition {row[1]} offset {row[2]} ({row[3]})"
    for what, sql in _DERIVED_CHECKS.items():
        for row in _rows(client, sql):
            yield f"{what}: {row[0]} epoch {row[1]} partition {row[2]} offset {row[3]} ({row[4]})"
    for name, sql in _counts():
        for row in _rows(client, sql):
            yield (
                f"{name}: epoch {row[0]} partition {row[1]} offset {row[2]}: the ledger says {row[3]} rows,"
                f" the tables hold {row[4]}"
            )
    for row in _rows(client, HOURS.format(kept=KEPT)):
        yield f"aggregates_1h: hour {row[0]} holds {row[1]} readings, its partials {row[2]}"
    yield from _count_again(client, settings)
    for section, totals in ledger_totals(client).items():
        if totals["difference"]:
            yield f"{section}: difference {totals['difference']}"


def _counts() -> Iterator[tuple[str, str]]:
    """Tables, and the query that compares the ledger with their rows, record by record."""
    rows = "SELECT raw_epoch, raw_partition, raw_offset, {at} AS at FROM {table}"
    for name in ("readings", "denied", "dead_letters", "events"):
        known, tables = f"received_from > {KEPT}", rows.format(at="received_at", table=name)
        yield name, _COUNTS.format(ledger="ledger_facts", fact=name, known=known, tables=tables, kept=KEPT)
    for topic, names in TABLES.items():
        known = f"topic = '{topic}' AND append_time > {KEPT}"
        tables = " UNION ALL ".join(rows.format(at="append_time", table=name) for name in names)
        counts = {"ledger": "ledger_derived", "fact": "rows", "known": known, "tables": tables}
        yield " and ".join(names), _COUNTS.format(**counts, kept=KEPT)


def _rows(client: Any, sql: str) -> list[tuple[Any, ...]]:
    with translated("ledger verify"):
        return [tuple(row) for row in client.query(sql).result_rows]


Said = tuple[int, ...]


def _count_again(client: Any, settings: KafkaSettings) -> Iterator[str]:
    """Compare what Kafka still holds of each topic, by its headers, with the ledger."""
    known = facts(settings, *LOGS)
    consumer = clients.consumer(settings, clients.READER, more={"enable.partition.eof": True})
    try:
        for topic, (columns, of) in _again().items():
            for partition in range(known[topic].partitions):
                yield from _compare(client, consumer, (topic, partition, known[topic].epoch), columns, of)
    finally:
        consumer.close()


def _again() -> dict[str, tuple[str, Callable[[Entry], Said]]]:
    """Of each topic the columns of the ledger that tell what its records say, and the same of a record."""
    received = (
        "received, platform, replayed",
        lambda e: (e.received.messages, e.received.platform, e.received.replayed),
    )
    rows: tuple[str, Callable[[Entry], Said]] = ("rows, readings, emitted", _said)
    return {topics.RAW: received} | dict.fromkeys(TABLES, rows)


def _said(entry: Entry) -> Said:
    return entry.rows - 1, entry.said.get("readings", 0), entry.said.get("emitted", 0)


def _compare(
    client: Any, consumer: Consumer, where: tuple[str, int, int], columns: str, of: Callable[[Entry], Said]
) -> Iterator[str]:
    topic, partition, epoch = where
    ledger = LOGS[topic].ledger
    only = f"AND topic = '{topic}'" if ledger.shared else ""
    sql = (
        f"SELECT raw_epoch, raw_offset, {ledger.offset}, {columns} FROM {ledger.table}"
        f" WHERE {ledger.epoch} = {epoch} AND raw_partition = {partition} {only}"
    )
    held = {(row[0], row[1]): row[2:] for row in _rows(client, sql)}
    furthest = max((offset for offset, *_ in held.values()), default=-1)
    read = LOGS[topic].reader(epoch, f"{topic}[{partition}]")
    for entry in map(read, _read(consumer, topic, partition, furthest)):
        name, said = (entry.origin.epoch, entry.origin.src), of(entry)
        if name not in held or tuple(held[name][1:]) != said:
            yield (
                f"{topic}[{partition}] offset {entry.offset} holds {said[0]},"
                f" the ledger says {held[name][1] if name in held else 'nothing'}"
            )


def _read(consumer: Consumer, topic: str, partition: int, until: int) -> Iterator[Arrival]:
    """Records that are still held, up to offset `until`."""
    low, high = kafka.ends(consumer, topic, partition)
    position, end = low, min(high, until + 1)
    consumer.assign([TopicPartition(topic, partition, low)])
    deadline = time.monotonic() + _SILENCE_S
    while position < end:
        messages = consumer.consume(500, 0.2)
        if messages:
            deadline = time.monotonic() + _SILENCE_S
        elif time.monotonic() > deadline:
            raise RetryableError(f"{topic}[{partition}]: Kafka does not answer")
        for message in messages:
            error = message.error()
            if error is not None and error.name() != "_PARTITION_EOF":
                kafka.check(error, f"{topic}[{partition}]")
            elif error is None and position < end:
                position = (message.offset() or 0) + 1
                yield kafka.arrival(message)
