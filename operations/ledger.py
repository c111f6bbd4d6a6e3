"""The ledger: what was received and stored, in totals, and verified record by record."""

from collections.abc import Iterator

from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.settings import KafkaSettings
from sinks import ledger as stored
from sinks import verify as walk

Totals = dict[str, dict[str, int]]
"""By section (messages, readings, windows) the count of each outcome; see sinks/ledger.py."""


def totals(clickhouse: ClickHouseSettings) -> Totals:
    """Raises RetryableError while ClickHouse is away."""
    with ClickHouse(clickhouse) as db:
        return stored.ledger_totals(db.client)


def verify(kafka: KafkaSettings, clickhouse: ClickHouseSettings) -> Iterator[str]:
    """Walk all of the ledger, compare it with the tables, and count again what Kafka still holds; a line for each thing
    that is wrong. Raises RetryableError while ClickHouse or Kafka is away."""
    with ClickHouse(clickhouse) as db:
        yield from walk.verify(db, kafka)
