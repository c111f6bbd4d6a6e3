"""Records of every kind through the state: what they change, and that nothing blocks a partition."""

import hashlib
import os
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest

from runtime.errors import FatalError
from schemas import headers, readings
from schemas.control import Device
from schemas.errors import ContractError, NewerSchemaError
from schemas.headers import Counts, Version
from schemas.vocabulary import Kind, Quality, Transport, Verdict
from streams.access.core import judge
from streams.access.core import state as state_module
from streams.access.core.stage import AccessStage
from streams.access.core.state import State
from streams.access.decode import decoder
from streams.access.policy import check, shipped
from tests.access.scenario import Scenario
from tests.access.support import NOW_MS, control, counts_of, data, message, registered, rows_of, tick
from tests.support.states import restored, stored

POLICY = """
roles:
  sensor: {publish: [telemetry/climate], metrics: {temperature: {min: -50, max: 80}}}
  open: {publish: [telemetry/*]}
  gateway: {publish: [telemetry/*]}
"""


def started(text: str = POLICY) -> State:
    state = AccessStage().create(0)
    state.apply(control(0, "policy", check(text, "test").encode()))
    for offset, device in enumerate([Device("s-1", "sensor"), Device("o-1", "open"), Device("g-1", "gateway")], 1):
        state.apply(registered(offset, device))
    return state


def verdict(state: State, row: dict[str, Any], offset: int = 100) -> tuple[Verdict, str | None]:
    found = rows_of(state.apply(data(offset, [row])))
    return Verdict(found[0]["verdict"]), found[0]["reason"]


def test_nobody_may_say_anything_before_a_policy_is_in_force() -> None:
    state = AccessStage().create(0)
    assert verdict(state, message("s-1", '{"temperature":1}')) == (
        Verdict.DENIED,
        "unknown_device: no policy is in force yet",
    )


def test_a_policy_is_in_force_from_its_offset_on_and_an_older_one_changes_nothing() -> None:
    state = started()
    strict = check("roles: {sensor: {publish: [telemetry/motor]}}", "t").encode()
    assert verdict(state, message("s-1", '{"temperature":1}'))[0] is Verdict.ACCEPTED
    state.apply(control(5, "policy", strict, Version(0, 50)))
    assert verdict(state, message("s-1", '{"temperature":1}'))[0] is Verdict.DENIED
    old = check(POLICY, "t").encode()
    for version in (Version(0, 50), Version(0, 49)):
        state.apply(control(6, "policy", old, version))
        assert verdict(state, message("s-1", '{"temperature":1}'))[0] is Verdict.DENIED
    state.apply(control(7, "policy", old, Version(1, 0)))
    assert verdict(state, message("s-1", '{"temperature":1}'))[0] is Verdict.ACCEPTED


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"roles":{"a":{}}}'])
def test_a_bad_policy_changes_nothing(value: bytes) -> None:
    state = started()
    state.apply(control(5, "policy", value))
    assert verdict(state, message("s-1", '{"temperature":1}'))[0] is Verdict.ACCEPTED
    assert state.policy.refused == 1


def test_registry_events_take_effect_in_order_of_their_versions() -> None:
    state = started()
    row = message("new", '{"temperature":1}')
    assert verdict(state, row) == (Verdict.DENIED, "unknown_device: not in the registry")
    state.apply(registered(5, Device("new", "sensor"), Version(0, 10)))
    assert verdict(state, row)[0] is Verdict.ACCEPTED
    state.apply(registered(6, Device("new", "sensor", "removed"), Version(0, 12)))
    assert verdict(state, row) == (Verdict.DENIED, "unknown_device: removed from the registry")
    state.apply(registered(7, Device("new", "sensor"), Version(0, 11)))
    assert verdict(state, row)[0] is Verdict.DENIED, "a repeat of an older event"
    state.apply(control(8, "device/new", b"", Version(0, 13)))
    assert verdict(state, row) == (Verdict.DENIED, "unknown_device: removed from the registry"), "a tombstone"


def test_a_removed_device_is_denied_even_where_strangers_have_a_role() -> None:
    state = started(POLICY + "\nunknown: open\n")
    assert verdict(state, message("anyone", '{"a":1}'))[0] is Verdict.ACCEPTED
    state.apply(registered(9, Device("anyone", "open", "removed")))
    assert verdict(state, message("anyone", '{"a":1}'))[0] is Verdict.DENIED


@pytest.mark.parametrize("value", [b"{", b'{"id":"other","role":"sensor"}', b'{"id":"s-1","role":5}'])
@pytest.mark.parametrize("policy", [POLICY, POLICY + "\nunknown: open\n"])
def test_a_broken_registry_record_denies_its_device_until_the_next_good_one(value: bytes, policy: str) -> None:
    state, row = started(policy), message("s-1", '{"temperature":1}')
    state.apply(control(9, "device/s-1", value, Version(0, 9)))
    assert verdict(state, row) == (Verdict.DENIED, "unknown_device: its state in the registry is unknown")
    state.apply(registered(10, Device("s-1", "sensor"), Version(0, 10)))
    assert verdict(state, row)[0] is Verdict.ACCEPTED


def test_a_state_of_a_later_release_denies_and_unknown_fields_do_not_matter() -> None:
    state, row = started(), message("s-1", '{"temperature":1}')
    state.apply(control(9, "device/s-1", b'{"id":"s-1","role":"sensor","attested":{"by":"tpm"}}', Version(0, 9)))
    assert verdict(state, row)[0] is Verdict.ACCEPTED
    state.apply(registered(10, Device("s-1", "sensor", "quarantined"), Version(0, 10)))
    assert verdict(state, row) == (Verdict.DENIED, "unknown_device: its state in the registry is unknown")


def test_a_recreated_platform_control_ends_children_that_it_does_not_name_again() -> None:
    state = started()
    state.apply(registered(5, Device("child", "sensor", parent="g-1"), Version(0, 10)))
    child = state.number("child")
    assert state.registry.parent[child] == state.number("g-1")
    state.apply(registered(6, Device("g-1", "gateway"), Version(1, 0)))
    assert state.registry.parent[child] == -1, "until the new topic says whose it is"
    state.apply(registered(7, Device("child", "sensor", parent="g-1"), Version(1, 1)))
    assert state.registry.parent[child] == state.number("g-1")


def test_only_ticks_move_stream_time_and_only_forward() -> None:
    state = started()
    for offset, time_ms, expected in ((1, 5000, 5000), (2, 4000, 5000), (3, 6000, 6000)):
        (output,) = state.apply(tick(offset, time_ms))
        found = dict(output.headers)
        assert (headers.kind_of(found), headers.number(found, "time"), output.value) == (Kind.TICK, expected, b"")
    (output,) = state.apply(data(4, [message("s-1", '{"temperature":1}', received_at=NOW_MS)]))
    assert headers.number(dict(output.headers), "time") == 6000


def test_a_control_record_is_passed_on_as_it_came() -> None:
    value = Device("s-9", "sensor").encode()
    (output,) = started().apply(control(9, "device/s-9", value, Version(2, 7)))
    found = dict(output.headers)
    assert output.value == value
    assert (found["kind"], found["key"], found["version"]) == (b"control", b"device/s-9", b"2/7")


def test_a_control_record_of_an_unknown_kind_is_passed_on() -> None:
    (output,) = started().apply(control(9, "detector/7", b"{}"))
    assert output.value == b"{}"


def test_a_value_out_of_range_is_kept_and_marked() -> None:
    rows = rows_of(started().apply(data(9, [message("s-1", f'{{"temperature":{v}}}') for v in (-51, 20, 81)])))
    assert [row["quality"] for row in rows] == [Quality.BELOW_RANGE, Quality.GOOD, Quality.ABOVE_RANGE]
    assert [row["value"] for row in rows] == [-51, 20, 81]


def test_a_will_is_accepted_and_has_one_event_row() -> None:
    state = started()
    row = {"device": "s-1", "topic": "d/s-1/event/offline", "payload": b"\xff not json", "boot": "3", "seq": "7"}
    outputs = state.apply(data(9, [row, row]))
    (found,) = rows_of(outputs)
    given = {key: found[key] for key in ("verdict", "device", "publisher", "metric", "payload", "boot", "seq")}
    assert list(given.values()) == [Verdict.EVENT, "s-1", "s-1", "event/offline", b"\xff not json", 3, 7]
    assert found["time"] == found["received_at"]
    assert counts_of(outputs) == Counts(received=2, accepted=1, duplicates=1, events=1)


def test_events_stand_among_readings_in_the_order_of_the_raw_rows() -> None:
    state = started(
        "roles: {sensor: {publish: [telemetry/climate, config]}, open: {publish: []}, gateway: {publish: []}}"
    )
    platform = {"device": "new", "topic": "p/new/connected", "payload": b"{}", "transport": int(Transport.PLATFORM)}
    config = {"device": "s-1", "topic": "d/s-1/config", "payload": b"{}", "content_type": "application/json"}
    rows = [platform, message("s-1", '{"a":1,"b":2}'), config, message("s-1", "{"), message("s-1", '{"a":3}'), platform]
    found = rows_of(state.apply(data(9, rows)))
    assert [(row["raw_row"], row["reading_index"], row["metric"]) for row in found] == [
        (0, 0, "connected"), (1, 0, "a"), (1, 1, "b"), (2, 0, "config"), (3, 0, None), (4, 0, "a"), (5, 0, "connected"),
    ]  # fmt: skip
    assert [row["value"] for row in found] == [None, 1, 2, None, None, 3, None]
    assert found[2]["device"] == "s-1" and found[3]["content_type"] == "application/json"


def test_a_denied_message_keeps_its_bytes_and_everything_it_came_with() -> None:
    row = message("s-1", b'{"rpm":1}', content_type="application/json", ts="1790000000001", boot="4", seq="0")
    (found,) = rows_of(started().apply(data(9, [row])))
    assert found["reason"] == "metric: rpm" and found["metric"] is None and found["channel"] == "climate"
    for key in ("topic", "payload", "content_type", "ts"):
        assert found[key] == row[key]
    assert (found["boot"], found["seq"]) == (4, 0)
    assert found["time"] == found["received_at"]


def test_a_childs_readings_need_the_registry_to_name_the_publisher_as_its_parent() -> None:
    state = started()
    row = message("g-1", '{"temperature":1,"device":"c-1"}')
    assert verdict(state, row) == (Verdict.DENIED, "child: 'c-1' is not registered under the publisher")
    state.apply(registered(9, Device("c-1", "sensor", parent="g-1")))
    (found,) = rows_of(state.apply(data(10, [row])))
    assert (found["device"], found["publisher"]) == ("c-1", "g-1")
    assert verdict(state, row | {"topic": "d/g-1/telemetry/motor"})[1] == (
        "child: the role of 'c-1' may not publish here"
    ), "going by a gateway must not widen what a device may say"
    state.apply(registered(11, Device("c-1", "sensor", parent="o-1")))
    assert verdict(state, row)[0] is Verdict.DENIED, "a child has one owner at a time"


def test_platform_rows_are_no_messages() -> None:
    state = started()
    platform = {"device": "s-1", "topic": "p/s-1/connected", "payload": b"{}", "transport": int(Transport.PLATFORM)}
    outputs = state.apply(data(9, [platform, message("s-1", '{"temperature":1}'), platform]))
    assert counts_of(outputs) == Counts(received=1, accepted=1, readings=1, events=2)
    assert [row["raw_row"] for row in rows_of(outputs)] == [0, 1, 2]
    assert counts_of(state.apply(data(10, [platform]))) == Counts(events=1)


@pytest.mark.parametrize("topic", ["d/s-1/telemetry/climate", "p/s-1/exploded", "p/s-2/connected", ""])
def test_a_platform_row_that_says_nothing_is_passed_over_and_counted(topic: str) -> None:
    state = started()
    row = message("s-1", "{}", transport=int(Transport.PLATFORM)) | {"topic": topic}
    outputs = state.apply(data(9, [row, message("s-1", '{"temperature":1}')]))
    assert counts_of(outputs) == Counts(received=1, accepted=1, readings=1)
    assert [found["raw_row"] for found in rows_of(outputs)] == [1]
    assert state.seen.unreadable == 1


def test_a_denied_seq_is_spent() -> None:
    state = started()
    row = message("s-1", '{"rpm":1}', boot="1", seq="0")
    assert verdict(state, row)[0] is Verdict.DENIED
    state.apply(control(9, "policy", check("roles: {sensor: {publish: [telemetry/*]}}", "t").encode()))
    assert counts_of(state.apply(data(10, [row]))).duplicates == 1


def test_without_boot_and_seq_nothing_is_a_repeat() -> None:
    state = started()
    for extra in ({}, {"seq": "5"}, {"boot": "5"}):
        row = message("s-1", '{"temperature":1}', **extra)
        assert counts_of(state.apply(data(9, [row, row]))).accepted == 2


def test_a_replayed_row_skips_the_seq_check_and_counts_once() -> None:
    state = started()
    row = message("s-1", '{"temperature":1}', boot="1", seq="0")
    state.apply(data(9, [row]))
    again = row | {"replay_of": "0/0/9/0"}
    assert counts_of(state.apply(data(10, [again]))) == Counts(received=1, accepted=1, replayed=1, readings=1)
    assert counts_of(state.apply(data(11, [again]))) == Counts(received=1, duplicates=1, replayed=1)
    assert counts_of(state.apply(data(12, [again | {"replay_of": "0/0/9/1"}] * 2))).duplicates == 1


def test_a_replay_of_what_is_no_row_is_a_dead_letter() -> None:
    found = verdict(started(), message("s-1", '{"temperature":1}', replay_of="somewhere"))
    assert found == (Verdict.DEAD_LETTER, "replay_of: 'somewhere' names no row")


def test_what_does_not_fit_into_one_record_becomes_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "MAX_ANSWER_BYTES", 5_000)
    state = started()
    big = message("o-1", "[" + ",".join(['{"a":1}'] * 20) + "]")
    small = message("o-1", '{"a":1}')
    outputs = state.apply(data(9, [small, big, small, big, small]))
    assert [r["raw_row"] for r in rows_of(outputs) if r["verdict"] == Verdict.DEAD_LETTER] == [1, 3]
    assert counts_of(outputs).accepted == 3
    assert verdict(state, big, 10)[0] is Verdict.ACCEPTED, "alone it fits"


def test_the_largest_answer_fits_into_its_topic() -> None:
    state = started()
    body = "[" + ",".join(['{"a":1}'] * 10_000) + "]"
    outputs = state.apply(data(9, [message("o-1", body, boot="1", seq=str(n)) for n in range(20)]))
    counts = counts_of(outputs)
    assert counts.accepted > 10 and counts.dead_letters == 20 - counts.accepted
    assert 12 << 20 < len(outputs[0].value) < 16 << 20
    found = readings.read(dict(outputs[0].headers), outputs[0].value)
    assert all(r.startswith("too_large: ") for r in found.column("reason").drop_null().to_pylist())


def test_a_bug_costs_one_message_and_not_the_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    def trap(*given: Any) -> Any:
        if b"trap" in given[1].column("payload").to_pylist():
            raise ZeroDivisionError
        return judge.judge(*given)

    monkeypatch.setattr(state_module, "judge", trap)
    state, twin = started(), started()
    rows = [message("s-1", f'{{"temperature":{n}}}', boot="1", seq=str(n)) for n in range(40)]
    for at in (7, 8, 39):
        rows[at] = message("s-1", b"trap")
    outputs = state.apply(data(9, rows))
    assert counts_of(outputs) == Counts(received=40, accepted=37, dead_letters=3, readings=37, missing=0)
    found = rows_of(outputs)
    assert [r["raw_row"] for r in found] == list(range(40))
    assert {r["reason"] for r in found} == {None, "internal: ZeroDivisionError"}
    assert [r["raw_row"] for r in found if r["reason"]] == [7, 8, 39]
    # what is remembered is what would be without them
    twin.apply(data(9, [row for row in rows if row["payload"] != b"trap"]))
    assert stored(state) == stored(twin)


def broken(*_: Any) -> Any:
    raise ZeroDivisionError


def of_devices(devices: int, payload: str = '{"a":1}', messages: int = 20) -> list[dict[str, Any]]:
    return [message(f"x-{n % devices}", payload) for n in range(messages)]


@pytest.mark.parametrize("place", ["judge", "decoder"])
def test_a_bug_that_hits_every_message_stops_the_stage(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state = started(POLICY + "\nunknown: open\n")
    monkeypatch.setattr(*((state_module, "judge") if place == "judge" else (decoder, "JSON")), broken)
    with pytest.raises(FatalError, match="all 20 messages of a record failed with 'internal: ZeroDivisionError"):
        state.apply(data(9, of_devices(4)))


@pytest.mark.parametrize("place", ["judge", "decoder"])
def test_messages_of_few_devices_stop_nobody_though_all_of_a_record_fail(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = started(POLICY + "\nunknown: open\n")
    monkeypatch.setattr(*((state_module, "judge") if place == "judge" else (decoder, "JSON")), broken)
    for rows in (of_devices(3), of_devices(4, messages=15)):
        assert counts_of(state.apply(data(9, rows))).dead_letters == len(rows)


def test_different_failures_of_all_messages_stop_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def trap(*given: Any) -> Any:
        devices = given[1].column("device").to_pylist()
        raise KeyError if devices == ["x-0"] else ZeroDivisionError

    monkeypatch.setattr(state_module, "judge", trap)
    outputs = started().apply(data(9, of_devices(4)))
    assert {r["reason"] for r in rows_of(outputs)} == {"internal: KeyError", "internal: ZeroDivisionError"}


def test_a_stranger_beyond_what_a_partition_remembers_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    state = started(POLICY + "\nunknown: open\n")
    monkeypatch.setattr(state_module, "MAX_UNREGISTERED", state.devices.size + 1)
    assert verdict(state, message("x-1", '{"a":1}'))[0] is Verdict.ACCEPTED
    assert verdict(state, message("x-2", '{"a":1}'))[1] == state_module._FULL
    state.apply(registered(9, Device("x-2", "open")))
    assert verdict(state, message("x-2", '{"a":1}'))[0] is Verdict.ACCEPTED, "the registry always has room"


def test_a_broken_record_stops_the_stage_with_a_clear_error() -> None:
    record = data(9, [message("s-1", "{}")])
    with pytest.raises(ContractError, match="not an Arrow IPC stream"):
        started().apply(type(record)(0, 9, 0, 9, Kind.DATA, record.headers, record.value[:200]))
    newer = dict(record.headers) | {"schema": b"telemetry.raw/2"}
    with pytest.raises(NewerSchemaError):
        started().apply(type(record)(0, 9, 0, 9, Kind.DATA, newer, record.value))


def test_an_empty_record_has_an_empty_answer() -> None:
    outputs = started().apply(data(9, []))
    assert rows_of(outputs) == [] and counts_of(outputs) == Counts()


def fingerprint(seed: int) -> str:
    """Of all outputs and snapshots of a schedule."""
    scenario, stage = Scenario(seed), AccessStage()
    state, digest = stage.create(0), hashlib.sha256()
    for _ in range(60):
        for output in state.apply(scenario.record()[0]):
            digest.update(output.value + repr(output.headers).encode())
        digest.update(stored(state))
    return digest.hexdigest()


def test_the_same_records_give_the_same_bytes_in_every_process() -> None:
    code = "from tests.access.test_state import fingerprint; print(fingerprint(77))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert found == {fingerprint(77) + "\n"}


def test_what_was_decoded_before_leaves_no_trace() -> None:
    stage = AccessStage()
    used, fresh = stage.create(0), AccessStage().create(0)
    used.apply(control(0, "policy", check(shipped("loopback"), "t").encode()))
    fresh.apply(control(0, "policy", check(shipped("loopback"), "t").encode()))
    other = stage.create(1)
    other.apply(control(0, "policy", check(shipped("loopback"), "t").encode()))
    other.apply(data(0, [message("z", f'{{"m{n % 50}":1}}') for n in range(300)]))
    record = data(1, [message("z", f'{{"m{n % 7}":1,"t":"x"}}') for n in range(30)])
    assert used.apply(record)[0].value == fresh.apply(record)[0].value
    assert stored(used) == stored(fresh)


def test_the_state_grows_to_a_quarter_of_a_million_devices_and_back_from_a_snapshot() -> None:
    stage = AccessStage()
    state = stage.create(0)
    state.apply(control(0, "policy", check(shipped("loopback"), "t").encode()))
    row = [f"sensor-{n}" for n in range(250_000)]
    for start in range(0, 250_000, 50_000):
        state.numbers(pa.array(row[start : start + 50_000]))
    state.apply(data(0, [message("sensor-249999", '{"a":1}', boot="1", seq="0")]))
    blob = stored(state)
    again = restored(stage, blob)
    assert again.devices.size == 250_000 and stored(again) == blob
    assert counts_of(again.apply(data(1, [message("sensor-249999", '{"a":1}', boot="1", seq="0")]))).duplicates == 1
    assert state.sizes()["bytes"] < 100 << 20
