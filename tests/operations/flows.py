"""Messages through a platform, commands, and what is stored after them."""

from runtime.clickhouse.client import ClickHouse
from sinks.verify import verify
from tests.sinks.conftest import Stand


def stored(stand: Stand) -> int:
    db = stand.db()
    try:
        return int(db.rows("SELECT count() FROM readings")[0][0])
    finally:
        db.close()


def findings(stand: Stand) -> list[str]:
    db: ClickHouse = stand.db()
    try:
        return list(verify(db, stand.kafka_settings))
    finally:
        db.close()


def flow(stand: Stand, records: int) -> None:
    for chain in stand.chains:
        chain.flow(records)
    stand.producer.flush()


def ok(result: object) -> None:
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"  # type: ignore[attr-defined]
