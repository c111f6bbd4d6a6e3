"""What presence writes, and when: one case at a time."""

from datetime import UTC, datetime
from typing import Any

import pytest

from schemas import headers
from schemas.control import Device
from schemas.headers import Version
from schemas.vocabulary import Kind, Verdict
from streams.presence.core import rows as rows_module
from streams.presence.core import watch as watch_module
from streams.presence.core.stage import PresenceStage
from streams.presence.core.state import SETTINGS
from streams.presence.rules import check
from tests.presence.support import NOW_MS, control, data, event, row, rows_of, tick
from tests.presence.timeline import Timeline

DAY = 86_400
HOUR = 3_600


def moment(second: float) -> datetime:
    return datetime.fromtimestamp(NOW_MS / 1000 + second, UTC)


def test_a_message_brings_a_device_and_silence_takes_it_away() -> None:
    t = Timeline()
    assert t.regularly("a", 10, 10) == [("a", "online", "telemetry")]
    assert t.last["since"] == moment(0) and t.last["expected_s"] is None
    assert t.at(130) == []
    assert t.at(131) == [("a", "offline", "silence")], "longer than three times ten seconds after the last message"
    assert t.last["since"] == t.last["last_seen"] == moment(100)
    assert t.last["time"] == moment(131) and t.last["expected_s"] == 30
    assert t.at(300) == []
    assert t.says("a") == [("a", "online", "telemetry")]


def test_each_tick_has_one_record_and_others_only_when_something_changes() -> None:
    state = PresenceStage().create(0)
    for record, rows in (
        (tick(0, NOW_MS), 0),
        (data(1, [row("a")]), 1),
        (data(2, [row("a")]), None),
        (tick(3, NOW_MS), 0),
        (tick(4, NOW_MS - 5000), 0),
        (data(5, []), None),
        (control(6, "policy", b"{}"), None),
        (control(7, "device/a", b""), 1),
    ):
        outputs = state.apply(record)
        if rows is None:
            assert outputs == []
            continue
        (output,) = outputs
        found = headers.table(output.headers)
        assert headers.kind_of(found) is record.kind and headers.number(found, "rows") == rows
        assert headers.number(found, "time") == NOW_MS
        assert found["schema"] == b"telemetry.presence/1" and bool(output.value) == bool(rows)


def test_the_broker_tells_of_connects_and_disconnects() -> None:
    t = Timeline()
    assert t.happens("a", "connected") == [("a", "online", "connected")]
    assert t.last["last_seen"] is None
    assert t.at(5) == [] and t.happens("a", "disconnected") == [("a", "offline", "disconnected")]
    assert t.last["since"] == moment(5)
    assert t.happens("b", "disconnected") == [("b", "offline", "disconnected")], "it is news that it exists"
    assert t.happens("b", "disconnected") == []


def test_a_will_takes_a_device_away_and_the_disconnect_that_follows_adds_nothing() -> None:
    t = Timeline()
    t.says("a")
    assert t.happens("a", "event/offline") == [("a", "offline", "will")]
    assert t.happens("a", "disconnected") == []


def test_other_events_are_speech() -> None:
    t = Timeline()
    assert t.happens("a", "event/door") == [("a", "online", "telemetry")]
    assert t.happens("b", "config") == [("b", "online", "telemetry")]


def test_what_was_sent_before_a_disconnect_brings_nobody_back() -> None:
    t = Timeline()
    t.says("a")
    t.happens("a", "disconnected")
    assert t.says("a") == [] and t.at(5) == [] and t.says("a") == []
    assert t.at(6) == []
    assert t.says("a") == [("a", "online", "telemetry")], "its connect was lost, or it speaks HTTP"


def test_a_connect_brings_a_device_back_at_once() -> None:
    t = Timeline()
    t.says("a")
    assert t.happens("a", "disconnected", "connected") == []
    t.happens("a", "disconnected")
    assert t.last["flaps"] == 2, "what came and went within one record is counted"
    assert t.happens("a", "connected") == [("a", "online", "connected")] and t.last["flaps"] == 0


def test_in_a_record_what_is_told_counts_and_not_the_messages_around_it() -> None:
    t = Timeline()
    assert t.record(row("a"), event("a", "event/offline"), row("a")) == [("a", "offline", "will")]
    assert t.record(row("b"), event("b", "disconnected"), event("b", "connected")) == [("b", "online", "connected")]


def test_changes_are_told_in_the_order_in_which_they_happened() -> None:
    t = Timeline()
    found = t.record(row("z"), event("y", "connected"), row("x"), event("w", "disconnected"), row("z"))
    assert [device for device, _, _ in found] == ["y", "x", "w", "z"]


def test_a_silence_is_told_even_though_the_broker_thinks_the_device_connected() -> None:
    t = Timeline()
    t.happens("a", "connected")
    t.regularly("a", 10, 10)
    assert t.at(131) == [("a", "offline", "silence")]


def test_a_device_of_which_nothing_is_known_is_waited_for_long_but_not_for_ever() -> None:
    t = Timeline()
    t.says("once")
    t.happens("mute", "connected")
    assert t.at(26 * HOUR - 10, every=10) == []
    assert sorted(t.at(26 * HOUR + 10, every=10)) == [("mute", "offline", "silence"), ("once", "offline", "silence")]


def test_bursts_are_no_habit() -> None:
    t = Timeline()
    found = []
    for hour in range(30):
        found += t.at(HOUR * hour, every=5)
        for _ in range(20):
            found += t.says("a") + t.at(t.second + 1)
    assert found == [("a", "online", "telemetry")], "it is silent for an hour as a matter of course"
    assert t.at(HOUR * 29 + 20 + 3 * HOUR + 10, every=5) == [("a", "offline", "silence")]


def test_messages_at_boot_do_not_teach_a_device_to_be_loud() -> None:
    t = Timeline()
    found = t.says("a")
    for _ in range(3):
        found += t.at(t.second + 1) + t.says("a")
    for _ in range(40):
        found += t.at(t.second + 600) + t.says("a")
    assert found == [("a", "online", "telemetry")]


def test_once_a_day_is_enough() -> None:
    t = Timeline()
    found = []
    for day in range(8):
        found += t.at(DAY * day + 1200 * (day % 3), every=9) + t.says("a")
    assert found == [("a", "online", "telemetry")]
    assert t.at(DAY * 10, every=9) == []
    assert t.at(DAY * 11, every=9) == [("a", "offline", "silence")]


def test_one_outage_does_not_make_a_habit() -> None:
    t = Timeline()
    t.regularly("a", 10, 20)
    assert t.at(t.second + 2 * DAY, every=9) == [("a", "offline", "silence")]
    assert t.regularly("a", 10, 10) == [("a", "online", "telemetry")]
    assert t.at(t.second + 181) == [("a", "offline", "silence")], "twice what was allowed, three times that"
    t.regularly("a", 10, 800)
    assert t.at(t.second + 31) == [("a", "offline", "silence")], "and that was forgotten again"


def test_a_slower_habit_is_learned_at_the_price_of_few_false_silences() -> None:
    t = Timeline()
    t.regularly("a", 10, 20)
    found = []
    for _ in range(40):
        found += t.at(t.second + HOUR, every=10) + t.says("a")
    silences = [one for one in found if one[2] == "silence"]
    assert len(silences) <= 4
    assert found[-1] == ("a", "online", "telemetry")


def test_an_outage_of_the_platform_is_no_silence_of_devices() -> None:
    t = Timeline()
    t.regularly("a", 10, 10)
    t.second += 3 * HOUR  # no tick came
    assert t.at(t.second + 1) == []
    assert t.at(t.second + 20) == [], "ten of the thirty seconds count for the standstill"
    assert t.at(t.second + 1) == [("a", "offline", "silence")]


def test_clocks_of_the_bridge_do_not_decide_who_is_silent() -> None:
    t = Timeline()
    for second in range(100):
        t.at(second * 10)
        t.record(row("past", NOW_MS - 10**12), row("future", NOW_MS + 10**12))
    assert [one["device"] for one in t.rows] == ["past", "future"]
    assert sorted(t.at(t.second + 31)) == [("future", "offline", "silence"), ("past", "offline", "silence")]


RESTLESS = "{flaps: {changes: 4, within: 10m}, settle: 0s}"


def test_a_restless_device_is_held_and_what_was_kept_back_is_counted() -> None:
    t = Timeline(RESTLESS)
    found = []
    for _ in range(10):
        found += t.happens("a", "connected") + t.happens("a", "disconnected")
    came, went = ("a", "online", "connected"), ("a", "offline", "disconnected")
    assert found == [came, went, came, went, came], "more than four changes at once"
    assert t.state.sizes()["held"] == 1
    assert t.at(599) == []
    assert t.at(600) == [went], "calm again, and its state then is written"
    assert t.last["flaps"] == 14 and t.last["since"] == moment(0)
    assert t.state.sizes()["held"] == 0


def test_one_that_is_held_goes_by_silence_and_is_not_told_twice() -> None:
    t = Timeline(RESTLESS)
    for _ in range(10):
        t.happens("a", "connected")
        t.at(t.second + 10)
        t.happens("a", "disconnected")
        t.at(t.second + 10)
    assert t.at(t.second + 60) == [("a", "offline", "silence")]
    assert t.at(t.second + HOUR) == [] and t.state.sizes()["held"] == 0


def test_one_that_connects_for_every_message_stays_online_while_it_sends() -> None:
    t = Timeline(RESTLESS)
    found = []
    for _ in range(60):
        found += t.happens("a", "connected") + t.says("a") + t.happens("a", "disconnected") + t.at(t.second + 20)
    assert found[-1] == ("a", "online", "connected") and len(found) == 5
    assert t.at(t.second + 60) == [("a", "offline", "silence")]
    assert t.last["flaps"] > 100


def test_a_gateways_children_are_devices_of_their_own() -> None:
    t = Timeline()
    assert t.says("c-1", "c-2", publisher="g") == [
        ("c-1", "online", "telemetry"), ("c-2", "online", "telemetry"), ("g", "online", "telemetry"),
    ]  # fmt: skip
    assert {one["device"]: one["publisher"] for one in t.rows} == {"c-1": "g", "c-2": "g", "g": "g"}
    for _ in range(10):
        assert t.at(t.second + 10) == [] and t.says("c-1", publisher="g") == []
    assert t.happens("g", "disconnected") == [("g", "offline", "disconnected")]
    assert t.at(t.second + 31) == [("c-1", "offline", "silence")]


def test_who_is_denied_is_there_and_whom_he_speaks_of_is_not() -> None:
    t = Timeline()
    t.says("g")
    t.happens("g", "disconnected")
    t.at(60)
    refused = [row("c", t.now_ms, verdict, publisher="g") for verdict in (Verdict.DENIED, Verdict.DEAD_LETTER)]
    assert t.record(*refused) == [("g", "online", "telemetry")]
    assert t.record(row("stranger", t.now_ms, Verdict.DENIED)) == [], "nobody is watched for what access denied"
    assert t.state.sizes()["devices"] == 1


def test_what_is_replayed_says_nothing_of_now() -> None:
    t = Timeline()
    old: dict[str, Any] = {"replay_of": "0/1/2/3"}
    assert t.record(row("a", **old), event("b", "event/offline", **old)) == []
    t.says("b")
    assert t.record(event("b", "event/offline", **old)) == []


def test_a_removed_device_goes_and_may_come_back() -> None:
    t = Timeline()
    t.says("a", "b")
    t.happens("b", "disconnected")
    assert t.registers(Device("a", "sensor")) == []
    t.at(7)
    assert t.registers(Device("a", "sensor", "removed")) == [("a", "offline", "removed")]
    assert t.last["since"] == t.last["time"] == moment(7)
    assert t.registers(Device("b", "sensor", "removed")) == [], "it was away anyway"
    assert t.state.sizes()["devices"] == 0
    assert t.registers(Device("a", "sensor", "removed")) == []
    assert t.record(row("a", t.now_ms, Verdict.DENIED)) == []
    assert t.says("a") == [("a", "online", "telemetry")]
    assert t.last["flaps"] == 0


def test_an_old_removal_that_is_relayed_again_changes_nothing() -> None:
    t = Timeline()
    t.says("a")
    gone = Device("a", "sensor", "removed").encode(with_token=False)
    assert rows_of(t.state.apply(control(50, "device/a", gone, Version(0, 7))))
    t.state.apply(control(51, "device/a", Device("a", "sensor").encode(with_token=False), Version(0, 9)))
    assert t.says("a") == [("a", "online", "telemetry")]
    assert not t.state.apply(control(52, "device/a", gone, Version(0, 7)))
    assert not t.state.apply(control(53, "device/a", gone, Version(0, 9)))


def test_a_child_that_moved_to_another_gateway_is_not_watched_where_it_was() -> None:
    t = Timeline()
    t.says("c", publisher="g-1")
    assert t.registers(Device("c", "sensor", parent="g-1")) == []
    assert t.registers(Device("c", "sensor", parent="g-2")) == [("c", "offline", "removed")]
    assert t.says("c", publisher="g-2")[0] == ("c", "online", "telemetry")
    assert t.registers(Device("c", "sensor", parent="g-2")) == []


def test_new_rules_hold_from_their_offset_on() -> None:
    t = Timeline()
    t.regularly("a", 10, 10)
    t.at(105)
    short = check("silence: {factor: 1, least: 10s, standstill: 5s}", "test").encode()
    assert not t.state.apply(control(900, SETTINGS, short, Version(0, 5)))
    assert t.at(110) == [] and t.at(111) == [("a", "offline", "silence")]
    for version, value in enumerate((b"{", b"", b'{"silence":{"factor":0}}', b"\xff"), 6):
        assert not t.state.apply(control(901, SETTINGS, value, Version(0, version)))
    assert t.state.watch.rules.least_ms == 10_000, "what cannot be read changes nothing"
    assert t.state.refusals == 4


def test_what_does_not_fit_into_one_record_is_told_with_the_next_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "MOST_ROWS", 40)
    monkeypatch.setattr(watch_module, "MOST_LOOKS", 30)
    t = Timeline()
    names = [f"d-{n}" for n in range(100)]
    for _ in range(12):
        t.says(*names)
        t.at(t.second + 10)
    counts = [len(t.at(t.second + 1)) for _ in range(30)]
    assert sum(counts) == 100 and max(counts) == 20
    assert {one["device"] for one in t.rows[-100:]} == set(names)
    assert rows_module.MOST_ROWS == 20_000


def test_a_record_of_another_kind_or_a_newer_schema_stops_the_stage() -> None:
    state = PresenceStage().create(0)
    record = data(0, [row("a")])
    newer = dict(record.headers) | {"schema": b"telemetry.readings/9"}
    with pytest.raises(Exception, match="upgrade"):
        state.apply(type(record)(0, 0, 0, 0, Kind.DATA, newer, record.value))
