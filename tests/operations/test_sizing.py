"""The arithmetic of `millrace size`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cli.errors import Exit
from cli.main import millrace
from operations.figures import FIGURES, known
from operations.sizing import (
    ASSUMED,
    CONNECTIONS,
    LINGER_S,
    ROWS,
    Fleet,
    Keep,
    _record_and_row_us,
    _stage_cores,
    _waking_us,
    size,
)

NAMES = known(FIGURES.read_text().splitlines())
FLEETS = st.builds(
    Fleet, st.integers(1, 20_000_000), st.floats(1e-5, 5), st.integers(1, 4_000), st.floats(0.5, 8), st.floats(1, 5)
)


@given(FLEETS)
def test_no_stage_needs_more_than_a_core_a_partition_and_the_rate_gives_the_rows(fleet: Fleet) -> None:
    found = size(fleet, Keep(), NAMES)
    pairs = next(part.instances for part in found.parts if part.name == "bridge")
    assert found.rows == min(ROWS, max(1.0, fleet.messages_per_s / pairs / found.partitions * LINGER_S))
    stages = [part for part in found.parts if part.name in ("access", "aggregate", "anomaly", "presence")]
    assert all(part.cores <= found.partitions for part in stages) or found.partitions >= 4_096
    many = ("kafka", "clickhouse")  # whose machines have many cores each
    assert all(part.instances >= max(1, part.cores) - 1e-9 for part in found.parts if part.name not in many)


@given(FLEETS, st.integers(2, 5))
def test_twice_the_devices_need_twice_the_disks_and_no_fewer_cores(fleet: Fleet, times: int) -> None:
    one = size(fleet, Keep(), NAMES)
    more = size(Fleet(fleet.devices * times, fleet.rate, fleet.payload, fleet.readings, fleet.peak), Keep(), NAMES)
    assert more.table_disk == pytest.approx(one.table_disk * times)
    assert more.kafka_disk == pytest.approx(one.kafka_disk * times)
    for a, b in zip(one.parts, more.parts, strict=True):
        if a.name in ("mosquitto", "bridge") or (one.partitions, one.rows) == (more.partitions, more.rows):
            assert b.cores >= a.cores - 1e-9


@given(FLEETS)
def test_every_core_and_byte_is_the_figures_times_the_rate(fleet: Fleet) -> None:
    """The same arithmetic, written out."""
    found, peak = size(fleet, Keep(copies=3), NAMES), fleet.messages_per_s * fleet.peak
    cores = {part.name: part.cores * 0.6e6 for part in found.parts}
    assert cores["bridge"] == pytest.approx(peak * NAMES["bridge_qos1_us"])
    record = peak / found.rows * NAMES["kafka_us_per_record"] + NAMES["kafka_us_per_s"]
    raw = NAMES["raw_bytes_per_message"] / NAMES["raw_value_bytes_per_message"]
    more = min(1.0, raw) * max(0.0, fleet.payload - NAMES["payload_bytes"])
    of_readings = fleet.readings * (NAMES["readings_bytes_per_reading"] + NAMES["derived_bytes_per_reading"])
    stream = peak * (NAMES["raw_bytes_per_message"] + more + of_readings)
    assert cores["kafka"] == pytest.approx(3 * (record + stream / 1e6 * NAMES["kafka_us_per_mb"]))
    by_time = found.partitions * NAMES["sink_us_per_partition_s"]
    assert cores["sink"] == pytest.approx(by_time + peak * fleet.readings * NAMES["sink_us_per_reading"])
    table = fleet.messages_per_s * 86_400 * 400 * 3 * fleet.readings * NAMES["table_bytes_per_reading"]
    assert found.table_disk == pytest.approx(table)


def test_what_a_demo_takes_is_what_is_said_within_half() -> None:
    """`footprint_…_cores` are what the services took at 2,000 messages a second."""
    found = size(Fleet(1_000, 2.0, 80, NAMES["readings_per_message"], peak=1.0), Keep(copies=1), NAMES)
    said = sum(part.cores for part in found.parts) * 0.6
    took = sum(NAMES[f"footprint_{part.name}_cores"] for part in found.parts)
    assert 1 / 1.5 < said / took < 1.5


def test_limits_are_told_with_what_to_do() -> None:
    small = size(Fleet(1_000, 1.0, 80), Keep(), NAMES)
    large = size(Fleet(10_000_000, 0.1, 80), Keep(), NAMES)
    assert small.limits == ()
    assert any("MQTT cluster" in line for line in large.limits)


def test_all_bad_arguments_are_reported_at_once() -> None:
    words = ["size", "--devices", "0", "--rate", "nan", "--peak", "0.5", "--copies", "0"]
    done = CliRunner().invoke(millrace, words)
    assert done.exit_code == Exit.USAGE
    assert done.stderr.replace("millrace: ", "").splitlines() == [
        "--devices 0: expected 1 or more",
        "--rate nan: expected 1e-06 or more",
        "--peak 0.5: expected 1 or more",
        "--copies 0: expected 1 or more",
    ]


def test_ten_million_idle_devices_are_ruled_by_connections() -> None:
    found = size(Fleet(10_000_000, 1 / 600, 80), Keep(), NAMES)
    assert found.parts[0].instances == 10_000_000 / CONNECTIONS
    assert found.parts[0].why == "connections"


def test_the_command_takes_other_figures_and_names_one_that_is_missing(tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text('noise\n{"name":"bridge_qos1_us","value":6}\n')
    done = CliRunner().invoke(millrace, ["size", "--devices", "1000", "--figures", str(few)])
    assert done.exit_code == Exit.FAILED and "mosquitto_us_per_message" in done.stderr
    done = CliRunner().invoke(millrace, ["size", "--devices", "10000000", "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["partitions"] >= 12
    people = CliRunner().invoke(millrace, ["size", "--devices", "10000000"], catch_exceptions=False).stdout
    assert "what costs most" in people
    assert all(line in people for line in ASSUMED)
    assert "x86_64" in people
    assert json.loads(done.stdout)["assumed"] == list(ASSUMED)


def test_each_service_takes_what_is_said_of_it_within_half() -> None:
    """Without the bridge: its figure is of full records, and it takes a thirtieth of the whole."""
    rate = NAMES["footprint_messages_per_s"]
    found = size(Fleet(1_000, rate / 1_000, 80, NAMES["readings_per_message"], peak=1.0), Keep(copies=1), NAMES)
    for part in found.parts:
        if part.name != "bridge":
            assert 1 / 1.5 < part.cores * 0.6 / NAMES[f"footprint_{part.name}_cores"] < 1.5, part.name


@given(st.sampled_from(("access", "aggregate", "anomaly", "presence")), st.floats(1, 900), FLEETS)
def test_a_stage_pays_for_partitions_records_and_rows(stage: str, rows: float, fleet: Fleet) -> None:
    of_readings = fleet.readings if stage != "access" else 1.0
    record, row = _record_and_row_us(stage, NAMES)
    peak = fleet.messages_per_s * fleet.peak
    us = 12 * _waking_us(stage, NAMES) + peak / rows * record + peak * of_readings * row
    assert min(record, row, _waking_us(stage, NAMES)) > 0
    assert _stage_cores(stage, fleet, 12, rows, NAMES) * 0.6e6 == pytest.approx(us)


def test_clickhouse_pays_for_partitions_rows_merges_and_windows() -> None:
    fleet = Fleet(1_000_000, 1 / 30, 80, readings=3, peak=2)  # two messages a window
    found = size(fleet, Keep(copies=2), NAMES)
    cores = next(part.cores for part in found.parts if part.name == "clickhouse") * 0.6e6
    row = NAMES["clickhouse_us_per_row"] + 6 * NAMES["clickhouse_us_per_merged_row"]
    by_time = found.partitions * NAMES["clickhouse_us_per_partition_s"]
    assert cores == pytest.approx(2 * (by_time + 1_000_000 / 30 * 2 * 3 * 1.5 * row))


def test_the_table_of_the_page_is_what_the_command_says() -> None:
    page = (Path(__file__).parents[2] / "docs/scaling.md").read_text()
    assert "\n".join(_page_rows()) in page, "\n".join(_page_rows())


def _page_rows() -> list[str]:
    every = {"minute": 1 / 60, "10 s": 0.1}
    rows = []
    for devices in (10_000, 1_000_000, 10_000_000):
        for name, rate in every.items():
            found = size(Fleet(devices, rate, 80), Keep(), NAMES)
            disks = f"{found.kafka_disk / 1e12:,.2f} | {found.table_disk / 1e12:,.1f}"
            rows.append(
                f"| {devices:,} | {name} | {devices * rate:,.0f} | {found.partitions} | {found.rows:,.0f}"
                f" | {found.cores:,.1f} | {disks} |"
            )
    return rows
