"""The ledger: received = accepted + denied + dead lettered + duplicates + in flight + difference; and its check.

The sums are those of the view `millrace.ledger` (sinks/migrations/0004_ledger_views.sql).
"""

import time
from collections.abc import Iterator
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from runtime.errors import RetryableError
from runtime.kafka import clients
from runtime.kafka.topics import facts
from runtime.settings import KafkaSettings
from schemas import topics
from sinks.adapters import kafka
from sinks.adapters.clickhouse import translated
from sinks.core.records import Arrival, read_raw

_AGAIN_S: Final = 0.5
_LOOKS: Final = 3
_SILENCE_S: Final = 15.0
_MESSAGES: Final = ("received", "accepted", "denied", "dead_lettered", "duplicates", "in_flight", "difference")
_BESIDE: Final = ("replayed", "missing", "platform")
_READINGS: Final = ("produced", "stored", "in_flight", "difference")


def ledger_totals(client: Any) -> dict[str, dict[str, int]]:
    """`{"messages": {…}, "readings": {…}}` of design, with `replayed`, `missing` and `platform` beside the messages.

    `client` is one of clickhouse-connect. A difference is looked at again before it is reported: a server under load
    may show a row and not yet the one written before it. Raises RetryableError while ClickHouse is away.
    """
    totals = _look(client)
    for _ in range(_LOOKS - 1):
        if not totals["messages"]["difference"] and not totals["readings"]["difference"]:
            break
        time.sleep(_AGAIN_S)
        totals = _look(client)
    return totals


def _look(client: Any) -> dict[str, dict[str, int]]:
    with translated("ledger"):
        answer = client.query("SELECT * FROM ledger")
    found = dict(zip(answer.column_names, (int(n) for n in answer.result_rows[0]), strict=True))
    messages = {name: found[name] for name in (*_MESSAGES, *_BESIDE)}
    return {"messages": messages, "readings": {name: found[f"readings_{name}"] for name in _READINGS}}


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
_COUNTS: Final = """
    SELECT raw_epoch, raw_partition, raw_offset, sum(said) AS facts, sum(held) AS rows FROM
    (
        SELECT raw_epoch, raw_partition, raw_offset, {fact} AS said, 0 AS held FROM ledger_facts
        WHERE received_from > {kept}
        UNION ALL
        SELECT raw_epoch, raw_partition, raw_offset, 0, count() FROM {table}
        WHERE received_at > {kept} AND (raw_epoch, raw_partition, raw_offset) IN
            (SELECT raw_epoch, raw_partition, raw_offset FROM ledger_facts WHERE received_from > {kept})
        GROUP BY raw_epoch, raw_partition, raw_offset
    )
    GROUP BY raw_epoch, raw_partition, raw_offset HAVING facts != rows ORDER BY ALL LIMIT 5"""
_KEPT: Final = """now() - toIntervalDay((
    SELECT toUInt32OrZero(extract(engine_full, 'toIntervalDay\\\\((\\\\d+)\\\\)')) FROM system.tables
    WHERE database = currentDatabase() AND name = 'readings'))"""


def verify(client: Any, settings: KafkaSettings) -> Iterator[str]:
    """Findings of a walk over all rows, one line each; none when the ledger is right.

    No record twice, no gaps, each fact equal to the rows in its table (inside retention), and each record that
    telemetry.raw still holds equal to its row in the ledger.
    """
    for table in ("ledger_received", "ledger_facts"):
        for what, sql in _CHECKS.items():
            for row in _rows(client, sql.format(table)):
                yield f"{what.format(table)}: epoch {row[0]} partition {row[1]} offset {row[2]} ({row[3]})"
    for table, fact in (("readings", "readings"), ("denied", "denied"), ("dead_letters", "dead_letters")):
        for row in _rows(client, _COUNTS.format(table=table, fact=fact, kept=_KEPT)):
            yield (
                f"{table}: epoch {row[0]} partition {row[1]} offset {row[2]}: the facts say {row[3]} rows,"
                f" the table holds {row[4]}"
            )
    yield from _count_again(client, settings)
    totals = ledger_totals(client)
    for section in ("messages", "readings"):
        if totals[section]["difference"]:
            yield f"{section}: difference {totals[section]['difference']}"


def _rows(client: Any, sql: str) -> list[tuple[Any, ...]]:
    with translated("ledger verify"):
        return [tuple(row) for row in client.query(sql).result_rows]


def _count_again(client: Any, settings: KafkaSettings) -> Iterator[str]:
    """Compare what telemetry.raw still holds, by its headers, with ledger_received."""
    fact = facts(settings, topics.RAW)[topics.RAW]
    consumer = clients.consumer(settings, clients.READER, more={"enable.partition.eof": True})
    try:
        for partition in range(fact.partitions):
            known = {
                offset: tuple(rest)
                for offset, *rest in _rows(
                    client,
                    "SELECT raw_offset, received, platform, replayed FROM ledger_received"
                    f" WHERE raw_epoch = {fact.epoch} AND raw_partition = {partition}",
                )
            }
            furthest = max(known, default=-1)
            for record in _read(consumer, partition, furthest):
                said = read_raw(fact.epoch, f"{topics.RAW}[{partition}]", record).received
                held = known.get(record.offset)
                if held != (said.messages, said.platform, said.replayed):
                    yield (
                        f"telemetry.raw[{partition}] offset {record.offset} holds {said.messages} messages,"
                        f" the ledger says {'nothing' if held is None else held[0]}"
                    )
    finally:
        consumer.close()


def _read(consumer: Consumer, partition: int, until: int) -> Iterator[Arrival]:
    """Records of telemetry.raw that are still held, up to offset `until`."""
    low, high = kafka.ends(consumer, topics.RAW, partition)
    position, end = low, min(high, until + 1)
    consumer.assign([TopicPartition(topics.RAW, partition, low)])
    deadline = time.monotonic() + _SILENCE_S
    while position < end:
        messages = consumer.consume(500, 0.2)
        if messages:
            deadline = time.monotonic() + _SILENCE_S
        elif time.monotonic() > deadline:
            raise RetryableError(f"telemetry.raw[{partition}]: Kafka does not answer")
        for message in messages:
            error = message.error()
            if error is not None and error.name() != "_PARTITION_EOF":
                kafka.check(error, f"telemetry.raw[{partition}]")
            elif error is None and position < end:
                position = (message.offset() or 0) + 1
                yield kafka.arrival(message)
