"""`millrace ledger verify`: walks all of the ledger, compares it with the tables, and counts again what Kafka holds."""

from collections.abc import Iterator
from typing import Final

from runtime.clickhouse.client import ClickHouse
from runtime.settings import KafkaSettings
from sinks.core.derived import TABLES
from sinks.ledger import ledger_totals
from sinks.recount import recount

_CHECKS: Final = {
    "record is stored twice in {0}": """
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
    "record is stored twice in ledger_derived": """
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


def verify(db: ClickHouse, settings: KafkaSettings) -> Iterator[str]:
    """Findings of a walk over all rows, one line each; none when the ledger is right.

    No record twice, no gaps, a record for each tick, as many rows in the tables as each record says (inside retention),
    each hour of windows as its partials add up, and each record that Kafka still holds equal to its row in the ledger.
    """
    for table in ("ledger_received", "ledger_facts"):
        for what, sql in _CHECKS.items():
            for row in db.rows(sql.format(table)):
                yield f"{what.format(table)}: epoch {row[0]} partition {row[1]} offset {row[2]} ({row[3]})"
    for what, sql in _DERIVED_CHECKS.items():
        for row in db.rows(sql):
            yield f"{what}: {row[0]} epoch {row[1]} partition {row[2]} offset {row[3]} ({row[4]})"
    for name, sql in _counts():
        for row in db.rows(sql):
            yield (
                f"{name}: epoch {row[0]} partition {row[1]} offset {row[2]}: the ledger says {row[3]} rows,"
                f" the tables hold {row[4]}"
            )
    for row in db.rows(HOURS.format(kept=KEPT)):
        yield f"aggregates_1h: hour {row[0]} holds {row[1]} readings, its partials {row[2]}"
    yield from recount(db, settings)
    for section, totals in ledger_totals(db.client).items():
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
