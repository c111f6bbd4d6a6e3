"""Points become incidents: opening, peak, updates, closing, cool-down; bounded; deterministic ids; operators' marks."""

import pytest

from schemas.control import Mark
from streams.anomaly.core import incidents, marks
from streams.anomaly.core.marks import MAX_LEVEL, Marks
from tests.anomaly.partition import Partition

LIMIT = """\
rules:
- detectors: [limits: {high: 80}]
incidents: {quiet: 2m, cool_down: 10m}
"""


def test_an_incident_tells_its_opening_its_peak_and_its_closing() -> None:
    found = Partition(LIMIT)
    begin_ms = found.now_ms
    for value in (50, 85, 120, 95, 50, 50, 50, 50):
        found.say(value)
        found.tick(60)
    assert found.states() == ["opened", "updated", "closed"]
    first, worse, last = found.incidents
    assert first["opened_at"] == first["peak_at"] == begin_ms + 60_000 and first["closed_at"] is None
    assert (worse["peak_value"], worse["points"]) == (120, 2), "a worse peak is written"
    assert (last["peak_at"], last["last_at"]) == (begin_ms + 120_000, begin_ms + 180_000)
    assert last["closed_at"] == last["time"] == found.now_ms - 120_000
    assert (last["points"], last["devices"], last["high"], last["explanation"]) == (
        3,
        1,
        80,
        "120; above the limit 80 for 60 s",
    )
    assert {row["incident"] for row in found.anomalies} == {first["incident"]}


def test_what_comes_back_while_it_cools_down_is_the_same_incident() -> None:
    found = Partition(LIMIT)
    for value in (85, 50, 50, 50, 50, 86):
        found.say(value)
        found.tick(60)
    assert found.states() == ["opened", "closed", "updated"] and len({row["incident"] for row in found.incidents}) == 1
    assert found.incidents[-1]["closed_at"] is None and found.incidents[-1]["points"] == 2
    found.tick(3600)
    found.tick(601)
    found.say(87)
    assert found.states() == ["opened", "closed", "updated", "closed", "opened"]
    assert len({row["incident"] for row in found.incidents}) == 2


def test_ids_are_made_of_what_an_incident_is_about() -> None:
    one, other = Partition(LIMIT), Partition(LIMIT, partition=3)
    other.say({"device": "d-0", "value": 200.0})  # other series numbers, other history
    for found in (one, other):
        found.say(85)
    assert one.incidents[0]["incident"] == other.incidents[-1]["incident"]
    assert len(one.incidents[0]["incident"]) == 16


def test_severity_is_the_detectors_or_worse() -> None:
    found = Partition("rules:\n- detectors: [limits: {high: 10, severity: info}, limits: {high: 20, name: hot}]")
    found.say(11, 21, 1000)
    severities = {row["detector"]: row["severity"] for row in found.opened()}
    assert severities == {"limits": 1, "hot": 2}, "one step up from a score of 0.9 on"


def test_a_crowd_makes_room_by_closing_what_was_strange_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incidents, "MAX_INCIDENTS", 10)
    monkeypatch.setattr(incidents, "MAX_OPENED", 8)
    found = Partition(LIMIT.replace("incidents", "shifts: []\nincidents"))
    for n in range(20):
        found.say({"device": f"d-{n}", "value": 90.0})
        found.tick(1)
    assert [row["device"] for row in found.opened()] == [f"d-{n}" for n in range(20)]
    assert [row["device"] for row in found.closed()] == [f"d-{n}" for n in range(10)]
    found.say(*({"device": f"e-{n}", "value": 90.0} for n in range(12)))
    assert len(found.opened()) == 28 and found.state.seen.refused == {"open_incidents": 4}
    assert found.state.sizes()["incidents"] == 10


def test_points_of_a_long_incident_are_counted_and_told_no_more() -> None:
    found = Partition(LIMIT)
    for _ in range(50):
        found.say(85)
    found.tick(200)
    assert len(found.anomalies) == 20 and found.incidents[-1]["points"] == 50


def test_a_false_alarm_makes_its_series_and_detector_harder_to_convince_once() -> None:
    found = Partition("rules:\n- detectors: [rate: {max: 10/min}]\nincidents: {quiet: 1m, cool_down: 1m}")

    def jump(device: str, size: float) -> bool:
        before = len(found.anomalies)
        found.say({"device": device, "value": 0.0})
        found.tick(60)
        found.say({"device": device, "value": size})
        found.tick(600)
        return len(found.anomalies) > before

    assert jump("d-1", 11)
    row = found.incidents[0]
    found.mark(row, "false-alarm")
    found.mark(row, "false-alarm")
    assert not jump("d-1", 14) and jump("d-1", 16) and jump("d-2", 11), "15 for d-1, as ever for others"
    found.mark(found.opened()[1], "confirmed")
    assert not jump("d-1", 14), "a confirmed one keeps the threshold"
    found.mark(row, "confirmed")
    assert jump("d-1", 11), "taken back"
    assert found.state.sizes()["marked"] == 0


def test_marks_are_bounded_and_tell_what_became_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "MAX_MARKED", 2)
    found = Marks()

    def say(incident: str, mark: str, device: str = "d-1") -> str:
        return found.take(Mark(incident, mark, device, 1, "device", device, "c", "m", "limits"))  # type: ignore[arg-type]

    assert found.take(Mark("x", "false-alarm", "d-1", 1)) == "unknown", "from before marks said what they are about"
    assert [say(f"{n}", "false-alarm") for n in range(20)] == ["raised"] * 20
    assert found.levels == {("device", "d-1", "c", "m", "limits"): MAX_LEVEL}
    assert say("a", "false-alarm", "d-2") == "raised" and say("b", "false-alarm", "d-3") == "full"
    assert [say("a", "confirmed", "d-2"), say("a", "confirmed", "d-2"), say("z", "confirmed")] == [
        "lowered",
        "kept",
        "kept",
    ]
    assert say("b", "false-alarm", "d-3") == "raised", "there is room again"
