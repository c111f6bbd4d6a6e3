"""A day of ten thousand devices through workers that are killed while partitions move, read back from ClickHouse."""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings
from schemas import topics as names
from sinks.ledger import ledger_totals
from sinks.verify import verify
from tests.aggregate.day import BEGIN_MS, Day, difference, merged, partials_of
from tests.aggregate.workers import Platform, Worker, until
from tests.servers import ClickHouseServer, KafkaServer

PARTITIONS = 4
DEVICES = int(os.environ.get("DEVICES", "10000"))
KILLS = 20
SEED = int(os.environ.get("SEED", "1"))
TICK_S = 300
COLUMNS = "device, metric, window_start, count, sum, sum_squares, min, max, first, last, first_time, last_time"
PARTITIONS_HELD = 'millrace_stage_partitions{stage="aggregate"}'


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_day_of_ten_thousand_devices_is_exact_through_twenty_kills(
    kafka_fresh: Callable[[], KafkaServer], clickhouse_fresh: Callable[[], ClickHouseServer], tmp_path: Path
) -> None:
    """Bursts of three messages every half hour; three workers of aggregate, one of access, one sink."""
    day = Day(devices=DEVICES, hours=24, interval_s=1800, partitions=PARTITIONS, burst=3, seed=SEED)
    clickhouse = clickhouse_fresh()
    platform = Platform(kafka_fresh().bootstrap, tmp_path, PARTITIONS)
    try:
        begin = time.monotonic()
        kills, spread = live(platform, day, settings_of(clickhouse))
        told = f"{sum(len(part.device) for part in day.partitions)} messages, kills {kills}"
        print(f"\n{told}; partitions held at the kills {spread}; written after {time.monotonic() - begin:.0f} s")
        assert all(any(held) for held in zip(*spread, strict=True)), "each worker had partitions at some time"
        check(platform, day, settings_of(clickhouse))
        print(f"compared after {time.monotonic() - begin:.0f} s")
    finally:
        platform.close()


def settings_of(clickhouse: ClickHouseServer) -> ClickHouseSettings:
    return ClickHouseSettings(clickhouse.url.rsplit("/", 1)[0] + "/day", clickhouse.password_file)


def live(platform: Platform, day: Day, tables: ClickHouseSettings) -> tuple[dict[str, int], list[tuple[int, ...]]]:
    """The day, killed KILLS times. (kills by stage, partitions that each worker held before each kill)."""
    r = random.Random(SEED)
    moving = {"MILLRACE_STATIC_MEMBERSHIP": "false", "MILLRACE_SNAPSHOT_INTERVAL_S": "2"}
    aggregates = [platform.worker("streams.aggregate", name, **moving).start() for name in "abc"]
    access = platform.worker("streams.access").start()
    sink(platform, tables).start()
    day.controls(platform.send)
    kills, spread = {"aggregate": 0, "access": 0}, []
    for number in range(KILLS):
        before = platform.ends(names.AGGREGATES)
        day.send(platform.send, BEGIN_MS + (number + 1) * (day.end_ms - BEGIN_MS) // (KILLS + 1), TICK_S)
        platform.flush()
        platform.wait_moved(before, 120)
        time.sleep(r.uniform(0, 3))  # where in its work the kill finds it is the point
        spread.append(tuple(int(worker.figure(PARTITIONS_HELD)) for worker in aggregates))
        stage, worker = r.choice([*(("aggregate", worker) for worker in aggregates), ("access", access)])
        worker.end()
        worker.start()
        kills[stage] += 1
    day.send(platform.send, day.end_ms + 20 * 60_000, TICK_S)
    platform.flush()
    platform.wait_done(600)
    return kills, spread


def sink(platform: Platform, tables: ClickHouseSettings) -> Worker:
    environment = {
        "MILLRACE_CLICKHOUSE_URL": tables.clickhouse_url,
        "MILLRACE_CLICKHOUSE_PASSWORD_FILE": str(tables.clickhouse_password_file),
        "MILLRACE_SINK_IDLE_MS": "1000",
    }
    return platform.worker("sinks", **environment)


def check(platform: Platform, day: Day, tables: ClickHouseSettings) -> None:
    """The ledger has no difference, and the view `windows` says what devices said."""
    readings = sum(day.readings(partition) for partition in range(PARTITIONS))
    db = ClickHouse(tables)
    until(lambda: all_stored(platform, day, db, readings), 300, lambda: str(ledger_totals(db.client)))
    found = ledger_totals(db.client)
    print(found)
    assert [section["difference"] for section in found.values()] == [0, 0, 0]
    assert list(verify(db, platform.settings)) == []
    windows = merged(partials_of(db.client.query_arrow(f"SELECT {COLUMNS} FROM windows", use_strings=True)))
    truth = pa.concat_tables([day.truth(partition) for partition in range(PARTITIONS)])
    print(f"{readings} readings in {len(truth)} windows")
    assert difference(by_window(truth), windows) == []
    db.close()


def all_stored(platform: Platform, day: Day, db: ClickHouse, readings: int) -> bool:
    """Time goes on meanwhile, without which the sink's last ranges never end."""
    day.tick(platform.send, 1_000)
    platform.flush()
    time.sleep(0.2)
    found = ledger_totals(db.client)
    return found["windows"]["counted"] == readings and not any(section["in_flight"] for section in found.values())


def by_window(table: pa.Table) -> pa.Table:
    return table.sort_by([("device", "ascending"), ("metric", "ascending"), ("window", "ascending")])
