"""Many devices of a group at once: one incident, whose parts from several partitions have one id."""

from typing import Any

import pytest

from tests.anomaly.partition import Partition

TEXT = """\
rules:
- detectors: [limits: {high: 80}, silence: {for: 5m}]
shifts:
- {group: site, share: 30 %, devices: 5, within: 5m}
- {group: all, devices: 40, within: 5m}
incidents: {quiet: 5m, cool_down: 5m}
"""


def partition(devices: int = 20, number: int = 0, text: str = TEXT) -> Partition:
    """Half of the devices at site north, half at south; all have said that all is well."""
    found = Partition(text, number)
    for n in range(devices):
        found.register(name(number, n), site="north" if n % 2 == 0 else "south")
    found.say(*(hot(number, n, 50.0) for n in range(devices)))
    found.tick(1)
    return found


def name(number: int, n: int) -> str:
    return f"p{number}-d{n:04}"


def hot(number: int, n: int, value: float = 90.0) -> dict[str, Any]:
    return {"device": name(number, n), "value": value}


def test_a_few_are_single_incidents_and_many_one_of_the_group() -> None:
    found = partition()
    found.say(*(hot(0, n) for n in (0, 2, 4)))
    assert [row["scope"] for row in found.opened()] == ["device"] * 3
    found.tick(10)
    found.say(*(hot(0, n) for n in (6, 8, 10)))
    (group,) = [row for row in found.opened() if row["scope"] == "site"]
    assert (group["device"], group["devices"], group["severity"], group["publisher"]) == ("north", 6, 2, None)
    assert "6 of 10 among the devices of site north are strange in temperature" in group["explanation"]
    assert len(found.opened()) == 4
    parts = found.closed()
    assert len(parts) == 3 and all(f"part of incident {group['incident']}" in row["explanation"] for row in parts)
    assert [row["incident"] for row in found.anomalies[-3:]] == [group["incident"]] * 3


def test_devices_outside_of_the_group_have_their_own() -> None:
    found = partition()
    found.say(*(hot(0, n) for n in (0, 2, 4, 6, 8)), hot(0, 1))
    assert sorted(row["device"] for row in found.opened()) == ["north", name(0, 1)]


def test_one_record_that_brings_ten_thousand_makes_one_incident() -> None:
    found = partition(4000)
    found.say(*(hot(0, n) for n in range(4000)))
    opened = found.opened()
    assert (1 <= len(opened) <= 3 and opened[-1]["scope"] == "all") or len(opened) == 1
    assert len([row for row in opened if row["scope"] == "device"]) == 0


def test_that_of_all_devices_takes_over_those_of_groups() -> None:
    found = partition(100)
    for n in range(200):
        found.say(hot(0, n))
    total = next(row for row in found.opened() if row["scope"] == "all")
    assert {row["scope"] for row in found.closed()} == {"device", "site"}
    assert all("part of incident" in row["explanation"] for row in found.closed())
    before = [row for row in found.anomalies if row["incident"] != total["incident"]]
    assert len(before) < 60 and found.anomalies[-1]["incident"] == total["incident"]


def test_parts_of_several_partitions_have_one_id() -> None:
    ids = set()
    for number in range(3):
        found = partition(number=number)
        found.tick(number * 7)  # not all notice at once
        found.say(*(hot(number, n) for n in range(0, 20, 2)))
        ids |= {row["incident"] for row in found.opened() if row["scope"] == "site"}
    assert len(ids) == 1


def test_devices_that_come_one_after_the_other_count_within_the_window_only() -> None:
    found = partition(text=TEXT.replace(", silence: {for: 5m}", ""))
    for n in range(0, 20, 2):
        found.say(hot(0, n))
        found.say(hot(0, n, 50.0))
        found.tick(100)
    assert {row["scope"] for row in found.opened()} == {"device"}


def test_it_closes_when_it_was_quiet_and_singles_open_again() -> None:
    found = partition()
    found.say(*(hot(0, n) for n in range(0, 20, 2)))
    group = found.opened()[0]["incident"]
    found.say(*(hot(0, n, 50.0) for n in range(0, 20, 2)))
    for _ in range(15):
        found.tick(60)
        found.say(hot(0, 0))
    closing = [row for row in found.closed() if row["scope"] == "site"]
    assert [row["incident"] for row in closing] == [group]
    assert [row["device"] for row in found.opened() if row["scope"] == "device"] == [name(0, 0)]


def test_a_site_that_falls_silent_is_one_incident_until_most_are_back() -> None:
    found = partition(text=TEXT)
    for _ in range(4):
        found.say(*(hot(0, n, 50.0) for n in range(20)))
        found.tick(60)
    for _ in range(6):
        found.say(*(hot(0, n, 50.0) for n in range(1, 20, 2)))
        found.tick(60)
    (row,) = found.opened()
    assert (row["scope"], row["device"], row["metric"], row["devices"]) == ("site", "north", "", 10)
    assert row["explanation"].startswith("10 of 10 among the devices of site north fell silent within 5 min")
    for _ in range(8):
        found.say(*(hot(0, n, 50.0) for n in range(19)), hot(0, 19, 50.0))
        found.tick(60)
    assert [row["state"] for row in found.incidents] == ["opened", "closed"]


@pytest.mark.parametrize("marks", [0, 1])
def test_a_false_alarm_asks_for_more_devices(marks: int) -> None:
    found = partition(60)
    found.say(*(hot(0, n) for n in range(0, 20, 2)))
    group = next(row for row in found.opened() if row["scope"] == "site")
    for _ in range(marks):
        found.mark(group, "false-alarm")
    found.say(*(hot(0, n, 50.0) for n in range(0, 20, 2)))
    found.tick(1800)
    before = len(found.opened())
    found.say(*(hot(0, n) for n in range(0, 20, 2)))
    again = [row["scope"] for row in found.opened()[before:]]
    assert again == (["device"] * 10 if marks else ["site"])
