"""`millrace detector` and `millrace incident` against a real Kafka and a real ClickHouse."""

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest

from runtime.clickhouse.client import ClickHouse
from runtime.kafka import topics
from runtime.settings import KafkaSettings
from schemas.control import Mark, mark_key, settings_key
from sinks.settings import MigrationSettings
from streams.anomaly.detectors import check, default, shipped
from tests.anomaly.conftest import Call
from tests.anomaly.partition import Partition

KEY = settings_key("anomaly")
TEXT = """\
rules:
- detectors: [limits: {high: 80}]
shifts:
- {group: site, devices: 3, within: 5m}
incidents: {quiet: 1m, cool_down: 1m}
"""


def test_settings_are_checked_published_and_shown(call: Call, kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(TEXT)
    bad.write_text("rules:\n- {detectors: [rate], metric: 5}\nshifts: 3\n")
    assert "that came with Millrace" in call("detector", "show")
    assert check(call("detector", "show"), "shown") == default()
    applied = call("detector", "apply", str(good))
    offset, value = topics.read_control(kafka_settings)[KEY]
    assert f"detectors 0/{offset} published: 1 rules with 1 detectors, 1 shifts" in applied
    refused = call("detector", "apply", str(bad), exit_code=1)
    for line in (f"{bad}:2: rule 1: metric", f"{bad}:2: rule 1: rate: 'max'", f"{bad}:3: shifts must", "3 mistakes"):
        assert line in refused
    assert topics.read_control(kafka_settings)[KEY] == (offset, value), "a bad one changes nothing"
    assert check(call("detector", "show"), "shown") == check(TEXT, "test")
    good.write_text(shipped())
    call("detector", "apply", str(good))


def partition_of_incidents(db: ClickHouse, partition: int, devices: list[str], quiet: bool) -> Partition:
    """What the stage would write of these devices, in the tables as the sink would write it."""
    found = Partition(TEXT, partition)
    for device in devices:
        found.register(device, site="north" if device.startswith("n") else f"of-{device}")
    for n, device in enumerate(devices):
        found.say({"device": device, "value": 81.0 + n})
        found.tick(1)
    if quiet:
        found.tick(100)
    for table, rows in (("anomalies", found.anomalies), ("incidents", found.incidents)):
        for n, row in enumerate(rows):
            where = {"raw_epoch": 0, "raw_partition": partition, "raw_offset": n, "row": 0}
            row |= where | {"append_time": row["time"]}
        db.insert(table, _table(rows), f"{table}/{partition}")
    return found


def _table(rows: list[dict[str, Any]]) -> Any:
    times = ("time", "received_at", "opened_at", "peak_at", "last_at", "closed_at", "append_time")
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    types = {name: pa.timestamp("ms", "UTC") if name in times else None for name in columns}
    return pa.table({name: pa.array(column, types[name]) for name, column in columns.items()})


@pytest.fixture(scope="module")
def parts(database: MigrationSettings) -> list[Partition]:
    db = ClickHouse(database)
    try:
        return [
            partition_of_incidents(db, 0, ["n-1", "n-2", "n-3", "x-1"], True),
            partition_of_incidents(db, 1, ["n-4", "n-5", "n-6"], False),
        ]
    finally:
        db.close()


def test_incidents_are_listed_with_the_parts_of_all_partitions_merged(call: Call, parts: list[Partition]) -> None:
    found = orjson.loads(call("incident", "list", "--all", "--json"))
    group = next(row for row in found if row["scope"] == "site")
    assert (group["device"], group["devices"], group["severity"]) == ("north", 6, "critical")
    assert group["points"] == 6 and group["closed_at"] is None, "one part is open still"
    assert found[0] == group, "the worst first"
    open_ones = orjson.loads(call("incident", "list", "--json"))
    assert {row["incident"] for row in open_ones} == {group["incident"]}
    assert [row["device"] for row in orjson.loads(call("incident", "list", "--all", "--device", "x-1", "--json"))] == [
        "x-1"
    ]
    text = call("incident", "list", "--all")
    assert group["incident"] in text and "site north temperature" in text


def test_one_is_shown_with_its_readings(call: Call, parts: list[Partition]) -> None:
    single = next(row for row in parts[0].incidents if row["device"] == "x-1")
    view = orjson.loads(call("incident", "show", single["incident"], "--json"))
    assert (view["device"], view["peak_value"], view["high"], view["mark"]) == ("x-1", 84.0, 80.0, None)
    assert [point["explanation"] for point in view["points_told"]] == ["84; above the limit 80"]
    assert "1 of 1 strange readings" in call("incident", "show", single["incident"])
    call("incident", "show", "0123456789abcdef", exit_code=1)


def test_a_mark_is_published_with_what_it_is_about(
    call: Call, parts: list[Partition], kafka_settings: KafkaSettings
) -> None:
    single = next(row for row in parts[0].incidents if row["device"] == "x-1")
    group = next(row for row in parts[0].incidents if row["scope"] == "site")
    call("incident", "mark", single["incident"], exit_code=2)
    assert "is false-alarm" in call("incident", "mark", single["incident"], "--false-alarm")
    assert "is confirmed" in call("incident", "mark", group["incident"], "--confirmed")
    control = topics.read_control(kafka_settings)
    for row, said, publisher in ((single, "false-alarm", "x-1"), (group, "confirmed", None)):
        key = mark_key(row["incident"])
        mark = Mark.decode(key, control[key][1])
        assert (mark.mark, mark.device, mark.scope, mark.subject) == (said, publisher, row["scope"], row["device"])
        assert (mark.channel, mark.metric, mark.detector) == (row["channel"], row["metric"], row["detector"])
    assert "mark         false-alarm" in call("incident", "show", single["incident"])
    parts[0].mark(single, "false-alarm")
    assert parts[0].state.seen.marks == {"raised": 1}, "the stage takes what the command published"
