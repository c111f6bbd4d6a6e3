"""Where control records go, and when our clock may be told."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.relay.core import Clock, Generation, Routing, off_ms
from schemas.control import Device, Mark, device_key, mark_key
from schemas.errors import ContractError
from schemas.headers import Version
from schemas.partition import partition_of

PARTITIONS = 64
V = Version(2, 9)


def _partition(device: str) -> int:
    return partition_of(device.encode(), PARTITIONS)


def _targets(routing: Routing, device: Device) -> list[int]:
    return [out.partition for out in routing.route(device_key(device.id), device.encode(), V)]


def test_the_policy_goes_to_every_partition_unchanged() -> None:
    found = Routing(4).route("policy", b'{"roles":{}}', V)
    assert [(o.partition, o.value) for o in found] == [(p, b'{"roles":{}}') for p in range(4)]
    assert dict(found[0].headers) == {
        "schema": b"telemetry.raw/1", "kind": b"control", "version": b"2/9", "key": b"policy"
    }  # fmt: skip


def test_a_device_goes_to_its_own_partition_without_its_token() -> None:
    (found,) = Routing(PARTITIONS).route("device/a", Device("a", "motor", token="00ff").encode(), V)
    assert found.partition == _partition("a")
    assert orjson.loads(found.value)["token"] is None and b"00ff" not in found.value


def test_a_child_goes_to_its_parent_too_and_a_move_is_told_to_the_parent_that_loses_it() -> None:
    routing = Routing(PARTITIONS)
    assert set(_targets(routing, Device("child", "meter", parent="g1"))) == {_partition("child"), _partition("g1")}
    moved = {_partition("child"), _partition("g1"), _partition("g2")}
    assert set(_targets(routing, Device("child", "meter", parent="g2"))) == moved
    assert set(_targets(routing, Device("child", "meter"))) == {_partition("child"), _partition("g2")}
    assert set(_targets(routing, Device("child", "meter"))) == {_partition("child")}


def test_parents_are_learned_from_what_was_relayed_before() -> None:
    routing = Routing(PARTITIONS)
    routing.learn("device/child", Device("child", "meter", parent="g1").encode())
    assert _partition("g1") in _targets(routing, Device("child", "meter"))


@pytest.mark.parametrize("key", ["topic/telemetry.raw", "heartbeat/x", "", "devices/a"])
def test_other_keys_stay_where_they_are(key: str) -> None:
    assert Routing(4).route(key, b"{}", V) == []


def test_tombstones_are_not_relayed() -> None:
    assert Routing(4).route("device/a", None, V) == []


@pytest.mark.parametrize("value", [b"", b"[]", b'{"id":"b","role":"x"}', b'{"id":"a"}', b'{"id":"a","role":"x","y":1}'])
def test_a_broken_device_record_is_refused(value: bytes) -> None:
    with pytest.raises(ContractError):
        Routing(4).route("device/a", value, V)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(-(10**5), 10**5))
def test_a_right_clock_is_never_suspected_however_slow_kafka_is(before_ms: int, after_ms: int, off: int) -> None:
    sent, appended = 10**9, 10**9 + before_ms
    assert off_ms(sent, appended, appended + after_ms) == 0
    assert off_ms(sent + off, appended, appended + after_ms + off) <= abs(off)


def test_the_clock_is_told_only_when_proved_and_no_more_after_a_jump() -> None:
    clock = Clock()
    assert not clock.may_tell(1_000_000, 0)
    clock.proof(1_000_000, 1_004_000, 1_000_002, 2)
    assert clock.may_tell(1_001_000, 1_000), "4 s is within bounds"
    assert not clock.may_tell(1_060_000, 2_000), "a jump of the wall clock"
    assert not clock.may_tell(1_002_000, 2_000), "once suspected it needs a new proof"
    clock.proof(1_002_000, 1_002_001, 1_002_002, 2_002)
    assert clock.may_tell(1_003_000, 3_002)
    clock.proof(1_003_000, 1_009_000, 1_003_002, 3_004)
    assert not clock.may_tell(1_004_000, 4_002) and clock.off_ms == 5_998


def test_a_commit_of_other_topics_counts_for_nothing() -> None:
    here = Generation(1, 3)
    assert here.resume_at(17, here.encode()) == 17
    assert [here.resume_at(17, m) for m in (Generation(1, 4).encode(), Generation(0, 3).encode(), "", None)] == [0] * 4
    assert here.resume_at(-1001, None) == 0


def test_settings_go_to_every_partition_and_a_mark_to_that_of_its_device() -> None:
    routing = Routing(4)
    assert [out.partition for out in routing.route("settings/anomaly", b"{}", V)] == [0, 1, 2, 3]
    mark = Mark("00112233445566ff", "false-alarm", "sensor-1", 5)
    key = mark_key(mark.incident)
    assert [out.partition for out in routing.route(key, mark.encode(), V)] == [partition_of(b"sensor-1", 4)]
    of_a_group = Mark("00112233445566ff", "confirmed", None, 5)
    assert len(routing.route(key, of_a_group.encode(), V)) == 4
    with pytest.raises(ContractError):
        routing.route(key, b"{}", V)
