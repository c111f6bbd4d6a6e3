"""What analysts read: windows, hours and days add up to what the readings themselves say; incidents merge."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.clickhouse.client import ClickHouse
from schemas import sketch
from sinks.settings import MigrationSettings
from sinks.verify import HOURS, KEPT
from tests.sinks.refreshing import refresh

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
START_MS = int(datetime.now(UTC).timestamp()) // 86_400 * DAY_MS - 3 * DAY_MS


@dataclass
class Reading:
    time_ms: int
    value: float
    partition: int


readings = st.lists(
    st.builds(
        Reading,
        st.integers(0, 3 * HOUR_MS - 1).map(lambda ms: START_MS + ms),
        st.one_of(st.just(0.0), st.floats(-1e9, 1e9).filter(lambda v: abs(v) > 1e-9)),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=60,
)


def partials(found: list[Reading], window_ms: int = 60_000) -> pa.Table:
    """Partial aggregates of one series, cut by window and partition as late and early ones are."""
    rows = []
    groups: dict[tuple[int, int], list[Reading]] = {}
    for reading in found:
        groups.setdefault((reading.time_ms // window_ms * window_ms, reading.partition), []).append(reading)
    for number, ((start, partition), of) in enumerate(sorted(groups.items(), key=lambda g: g[0])):
        values, by_time = np.array([r.value for r in of]), sorted(of, key=lambda r: r.time_ms)
        buckets, counts = np.unique(sketch.buckets(values), return_counts=True)
        rows.append(
            {
                "device": "a",
                "channel": "climate",
                "metric": "m",
                "window_start": start,
                "window_ms": window_ms,
                "part": partition % 3,
                "count": len(of),
                "sum": values.sum(),
                "sum_squares": (values**2).sum(),
                "mean": (mean := values[0] + (values - values[0]).mean()),
                "m2": ((values - mean) ** 2).sum(),
                "min": values.min(),
                "max": values.max(),
                "first": by_time[0].value,
                "last": by_time[-1].value,
                "first_time": by_time[0].time_ms,
                "last_time": by_time[-1].time_ms,
                "sketch_buckets": buckets.tolist(),
                "sketch_counts": counts.tolist(),
                "raw_partition": partition,
                "raw_offset": number,
                "append_time": START_MS,
            }
        )
    times = ("window_start", "first_time", "last_time", "append_time")
    table = pa.Table.from_pylist(rows)
    for name in times:
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.timestamp("ms", "UTC")))
    return table


def begin(db: ClickHouse) -> None:
    for table in ("aggregates_1m", "group_aggregates_1m", "aggregates_1h"):
        db.command(f"TRUNCATE TABLE {table}")


COLUMNS = "count, sum, mean, stddev, min, max, first_time, last_time, p50, p95, p99"


def check(found: list[Reading], row: Iterable[Any]) -> None:
    count, total, mean, deviation, least, greatest, first_time, last_time, *quantiles = row
    values = np.array([r.value for r in found])
    scale = np.abs(values).max() or 1.0
    assert (count, least, greatest) == (len(values), values.min(), values.max())
    assert math.isclose(total, values.sum(), rel_tol=1e-9, abs_tol=1e-9 * scale * len(values))
    assert math.isclose(mean, values.mean(), rel_tol=1e-9, abs_tol=1e-9 * scale)
    assert math.isclose(deviation, values.std(), rel_tol=1e-12, abs_tol=1e-15 * scale)
    at = [int(t.timestamp() * 1000 + 0.5) for t in (first_time, last_time)]
    assert at == [min(r.time_ms for r in found), max(r.time_ms for r in found)]
    for q, quantile in zip((0.5, 0.95, 0.99), quantiles, strict=True):
        truth = float(np.quantile(values, q, method="lower"))
        assert abs(quantile - truth) <= sketch.RELATIVE_ERROR * abs(truth) + 1e-300


@settings(max_examples=15)
@given(readings)
def test_windows_hours_and_days_are_what_their_readings_say(migrated: MigrationSettings, found: list[Reading]) -> None:
    db = ClickHouse(migrated)
    insert(db, partials(found))
    cases = (
        ("windows", 60_000),
        ("group_windows", 60_000),
        ("windows_1h", HOUR_MS),
        ("group_windows_1h", HOUR_MS),
        ("windows_1d", DAY_MS),
    )
    for view, length_ms in cases:
        rows = db.rows(f"SELECT toUnixTimestamp(window_start) * 1000, {COLUMNS} FROM {view}")
        assert {row[0] for row in rows} == {r.time_ms // length_ms * length_ms for r in found}, view
        for start, *row in rows:
            check([r for r in found if start <= r.time_ms < start + length_ms], row)
    db.close()


VIEWS = ("windows", "group_windows", "windows_1h", "group_windows_1h", "windows_1d")


def insert(db: ClickHouse, table: pa.Table) -> None:
    """As windows of a device and of a group, and refresh the hours."""
    begin(db)
    db.client.insert_arrow("aggregates_1m", table)
    groups = table.rename_columns({"device": "name"}).append_column("scope", pa.array(["site"] * table.num_rows))
    db.client.insert_arrow("group_aggregates_1m", groups)
    refresh(db)


@pytest.mark.parametrize(
    ("values", "deviation"),
    [
        ([1000000000.1] * 60, 0.0),
        ([1e9, 1e9 + 10], 5.0),
        ([1e12, 1e12 + 1, 1e12 + 2], math.sqrt(2 / 3)),
        ([1e15 + n % 2 for n in range(60)], 0.5),
    ],
)
def test_the_deviation_of_values_that_are_large_against_their_spread_has_all_its_digits_in_every_view(
    db: ClickHouse, values: list[float], deviation: float
) -> None:
    """Whether they are in one partial or in several, as late readings are."""
    for partitions in (1, 3):
        insert(db, partials([Reading(START_MS + n, value, n % partitions) for n, value in enumerate(values)]))
        for view in VIEWS:
            ((mean, found),) = db.rows(f"SELECT mean, stddev FROM {view}")
            assert math.isclose(found, deviation, rel_tol=1e-9), (view, partitions)
            assert math.isclose(mean, sum(map(Fraction, values)) / len(values), rel_tol=1e-15)


def test_rows_without_moments_have_a_deviation_where_their_sums_have_digits_of_it_and_none_elsewhere(
    db: ClickHouse,
) -> None:
    """Rows of a release that kept sums of squares only, and rows that such a release still writes after a rollback."""
    for values, deviation in (([1.0, 3.0], 1.0), ([1e9, 1e9 + 10], None), ([1000000000.1] * 60, 0.0)):
        found = [Reading(START_MS + n, value, 0) for n, value in enumerate(values)]
        insert(db, partials(found).drop_columns(["mean", "m2"]))
        for view in VIEWS:
            ((mean, got),) = db.rows(f"SELECT mean, stddev FROM {view}")
            assert got == deviation, (view, values)
            assert math.isclose(mean, sum(values) / len(values))


def test_first_and_last_are_those_of_the_earliest_and_the_latest_reading(db: ClickHouse) -> None:
    begin(db)
    made = [Reading(START_MS + 5, 1.0, 0), Reading(START_MS + 2, 2.0, 1), Reading(START_MS + 9, 3.0, 2)]
    made += [Reading(START_MS + HOUR_MS, 4.0, 0)]
    db.client.insert_arrow("aggregates_1m", partials(made))
    refresh(db)
    expected = {"windows": [(2.0, 3.0), (4.0, 4.0)], "windows_1h": [(2.0, 3.0), (4.0, 4.0)], "windows_1d": [(2.0, 4.0)]}
    for view, rows in expected.items():
        assert db.rows(f"SELECT first, last FROM {view} ORDER BY window_start") == rows


@pytest.mark.parametrize(("parts", "closed"), [((2,), 0), ((2, 0), 1), ((1,), 1), ((2, 1), 1)])
def test_a_window_is_closed_when_more_than_early_parts_were_written(
    db: ClickHouse, parts: tuple[int, ...], closed: int
) -> None:
    begin(db)
    for number, part in enumerate(parts):
        row = f"'a', {START_MS // 1000}, {part}, 1, {number}, now()"
        db.command(
            f"INSERT INTO aggregates_1m (device, window_start, part, count, raw_offset, append_time) VALUES ({row})"
        )
    assert db.rows("SELECT closed, partials FROM windows") == [(closed, len(parts))]


def test_without_sketches_there_are_no_quantiles(db: ClickHouse) -> None:
    begin(db)
    table = partials([Reading(START_MS, 1.0, 0)])
    for name in ("sketch_buckets", "sketch_counts"):
        table = table.set_column(table.column_names.index(name), name, pa.array([[]], pa.list_(pa.int64())))
    db.client.insert_arrow("aggregates_1m", table)
    refresh(db)
    for view in ("windows", "windows_1h", "windows_1d"):
        assert db.rows(f"SELECT mean, p50, p99 FROM {view}") == [(1.0, None, None)]


def hours(db: ClickHouse) -> list[tuple[Any, ...]]:
    return db.rows("SELECT toUnixTimestamp(window_start) * 1000, count, sum FROM windows_1h ORDER BY ALL")


def test_late_partials_make_their_hour_anew_however_often_it_is_refreshed(db: ClickHouse) -> None:
    begin(db)
    db.client.insert_arrow("aggregates_1m", partials([Reading(START_MS + i * HOUR_MS // 2, 1.0, 0) for i in range(6)]))
    refresh(db)
    refresh(db)
    assert hours(db) == [(START_MS + i * HOUR_MS, 2, 2.0) for i in range(3)]
    db.client.insert_arrow("aggregates_1m", partials([Reading(START_MS + HOUR_MS, 5.0, 3)]))
    refresh(db)
    assert hours(db) == [(START_MS, 2, 2.0), (START_MS + HOUR_MS, 3, 7.0), (START_MS + 2 * HOUR_MS, 2, 2.0)]


def test_hours_that_nothing_came_for_are_not_made_again(db: ClickHouse) -> None:
    begin(db)
    for reading, age in ((Reading(START_MS, 1.0, 0), 5), (Reading(START_MS + HOUR_MS, 1.0, 1), 0)):
        table = partials([reading])
        stored = pa.array([int(datetime.now(UTC).timestamp() * 1000) - age * HOUR_MS]).cast(pa.timestamp("ms", "UTC"))
        db.client.insert_arrow("aggregates_1m", table.append_column("stored_at", stored))
    refresh(db)
    assert [count for _, count, _ in hours(db)] == [1, 1]
    refresh(db)
    made = db.rows("SELECT toUnixTimestamp(window_start) * 1000, count() FROM aggregates_1h GROUP BY ALL ORDER BY ALL")
    assert made == [(START_MS, 1), (START_MS + HOUR_MS, 2)], "with an empty table all, then what is new"


def test_verify_tells_of_an_hour_that_is_not_what_its_partials_are(db: ClickHouse) -> None:
    begin(db)
    stored = pa.array([int(datetime.now(UTC).timestamp() * 1000) - HOUR_MS]).cast(pa.timestamp("ms", "UTC"))
    db.client.insert_arrow("aggregates_1m", partials([Reading(START_MS, 1.0, 0)]).append_column("stored_at", stored))
    refresh(db)
    assert db.rows(HOURS.format(kept=KEPT)) == []
    db.command("ALTER TABLE aggregates_1h UPDATE count = 9 WHERE 1", mutations_sync=2)
    assert [row[1:] for row in db.rows(HOURS.format(kept=KEPT))] == [(9, 1)]


# ---- incidents


def _incidents(db: ClickHouse, rows: list[tuple[Any, ...]]) -> None:
    """(incident, partition, offset, state, opened, peak at, score, value, points, closed), times in seconds."""
    for incident, partition, offset, state, opened, peak_at, score, value, points, closed in rows:
        at = f"fromUnixTimestamp64Milli(toInt64({START_MS}) + 1000 * {{}})"
        db.command(
            "INSERT INTO incidents (incident, raw_partition, raw_offset, state, scope, device, metric, time, opened_at,"
            " peak_at, last_at, closed_at, peak_score, peak_value, points, devices, explanation, append_time) VALUES"
            f" ('{incident}', {partition}, {offset}, '{state}', 'site', 'north', 'm', now(), {at.format(opened)},"
            f" {at.format(peak_at)}, {at.format(peak_at)}, {at.format(closed) if closed else 'NULL'}, {score}, {value},"
            f" {points}, {points}, 'why {score}', now())"
        )


def test_parts_of_an_incident_merge_over_partitions(db: ClickHouse) -> None:
    _incidents(
        db,
        [
            ("x", 0, 10, "opened", 5, 5, 0.5, 30, 1, None),
            ("x", 0, 20, "updated", 5, 8, 0.7, 40, 4, None),
            ("x", 3, 7, "opened", 3, 6, 0.9, "NULL", 2, None),
            ("x", 0, 30, "closed", 5, 8, 0.7, 40, 6, 20),
            ("y", 1, 5, "closed", 1, 1, 0.2, 10, 1, 2),
            ("y", 2, 5, "closed", 0, 1, 0.1, 10, 1, 4),
        ],
    )
    columns = "incident, state, opened_at, peak_at, closed_at, peak_score, peak_value, points, devices, explanation"
    times = ("opened_at", "peak_at", "closed_at")
    found = ", ".join(f"toUnixTimestamp({c}) - {START_MS // 1000}" if c in times else c for c in columns.split(", "))
    assert db.rows(f"SELECT {found} FROM incidents_current ORDER BY incident") == [
        ("x", "open", 3, 6, None, 0.9, None, 8, 8, "why 0.9"),
        ("y", "closed", 0, 1, 4, 0.2, 10.0, 2, 2, "why 0.2"),
    ]


def test_views_ask_the_index_for_a_device_and_a_time(db: ClickHouse) -> None:
    begin(db)
    db.client.insert_arrow("aggregates_1m", partials([Reading(START_MS + i * 60_000, 1.0, 0) for i in range(180)]))
    plan = "\n".join(
        row[0]
        for row in db.rows(
            "EXPLAIN indexes = 1 SELECT mean FROM windows WHERE device = 'a' AND window_start > now() - INTERVAL 1 DAY"
        )
    )
    assert "device in ['a', 'a']" in plan
    assert "Parts: 0/1" in plan
