"""Where control records go, and when our clock may send ticks."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.relay.core import Clock, Generation, Routed, Routing, off_ms
from schemas.control import FORMAT, FORMAT_HEADER, FORMER_HEADER, Device, Mark, device_key, mark_key
from schemas.headers import Version
from schemas.partition import partition_of

PARTITIONS = 64
V = Version(2, 9)
NEW = {FORMAT_HEADER: FORMAT}


def _partition(device: str) -> int:
    return partition_of(device.encode(), PARTITIONS)


def _targets(routing: Routing, device: Device) -> list[int]:
    return [out.partition for out in routing.route(device_key(device.id), device.encode(), V, NEW).records]


def test_the_policy_goes_to_every_partition_unchanged() -> None:
    found = Routing(4).route("policy", b'{"roles":{}}', V, NEW).records
    assert [(o.partition, o.value) for o in found] == [(p, b'{"roles":{}}') for p in range(4)]
    assert dict(found[0].headers) == {
        "schema": b"telemetry.raw/1", "kind": b"control", "version": b"2/9", "key": b"policy"
    }  # fmt: skip


def test_a_device_goes_to_its_own_partition_without_its_token() -> None:
    (found,) = Routing(PARTITIONS).route("device/a", Device("a", "motor", token="00ff").encode(), V, NEW).records
    assert found.partition == _partition("a")
    assert orjson.loads(found.value)["token"] is None and b"00ff" not in found.value


def test_a_move_reaches_every_parent_that_the_device_had_without_a_memory() -> None:
    child = Device("child", "meter", parent="g3")
    found = Routing(PARTITIONS).route("device/child", child.encode(), V, NEW | {FORMER_HEADER: b"g1,g2"}).records
    assert {out.partition for out in found} == {_partition(name) for name in ("child", "g1", "g2", "g3")}
    assert set(_targets(Routing(PARTITIONS), child)) == {_partition("child"), _partition("g3")}


@pytest.mark.parametrize(
    "headers", [{}, {FORMAT_HEADER: b"1", FORMER_HEADER: b"*"}, {FORMAT_HEADER: b"2", FORMER_HEADER: b"\xff"}]
)
def test_where_former_parents_are_not_known_every_partition_is_told(headers: dict[str, bytes]) -> None:
    value = Device("child", "meter").encode()
    assert len(Routing(PARTITIONS).route("device/child", value, V, headers).records) == PARTITIONS
    known = Routing(PARTITIONS, complete_below=V.offset + 1).route("device/child", value, V, {})
    assert [out.partition for out in known.records] == [_partition("child")], "a telemetry.raw that holds nothing yet"


@pytest.mark.parametrize("key", ["topic/telemetry.raw", "heartbeat/x", "", "devices/a", "good/device/a"])
def test_other_keys_stay_where_they_are(key: str) -> None:
    assert Routing(4).route(key, b"{}", V, NEW) == Routed([])


def test_a_device_with_an_id_that_none_can_have_is_left_out_and_counted() -> None:
    found = Routing(4).route("device/\ufffd", b"{}", V, NEW)
    assert found.records == [] and found.broken is not None


def test_a_tombstone_is_a_removal_in_every_partition() -> None:
    found = Routing(4).route("device/a", None, V, NEW)
    assert found.broken is None and [out.partition for out in found.records] == [0, 1, 2, 3]
    assert Device.decode("device/a", found.records[0].value).state == "removed"


@pytest.mark.parametrize("value", [b"[]", b'{"id":"b","role":"x"}', b'{"id":"a"}', b'{"id":"a","role":5}', b"\xff"])
def test_a_broken_device_record_denies_the_device_in_every_partition(value: bytes) -> None:
    found = Routing(4).route("device/a", value, V, NEW)
    assert found.broken is not None and [out.partition for out in found.records] == [0, 1, 2, 3]
    assert Device.decode("device/a", found.records[0].value).state == "unknown"


def test_a_record_of_the_next_version_keeps_its_state_and_its_fields() -> None:
    value = b'{"id":"a","role":"x","state":"quarantined","since":[1,{"x":2.5}],"token":"00ff"}'
    (found,) = Routing(4).route("device/a", value, V, {FORMAT_HEADER: b"2"}).records
    body = orjson.loads(found.value)
    assert (body["state"], body["since"], body["token"]) == ("quarantined", [1, {"x": 2.5}], None)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(-(10**5), 10**5))
def test_a_right_clock_is_never_suspected_however_slow_kafka_is(before_ms: int, after_ms: int, off: int) -> None:
    sent, appended = 10**9, 10**9 + before_ms
    assert off_ms(sent, appended, appended + after_ms) == 0
    assert off_ms(sent + off, appended, appended + after_ms + off) <= abs(off)


def test_the_clock_is_told_only_when_proved_and_no_more_after_a_jump() -> None:
    clock = Clock()
    assert not clock.may_tick(1_000_000, 0)
    clock.proof(1_000_000, 1_004_000, 1_000_002, 2)
    assert clock.may_tick(1_001_000, 1_000), "4 s is within bounds"
    assert not clock.may_tick(1_060_000, 2_000), "a jump of the wall clock"
    assert not clock.may_tick(1_002_000, 2_000), "once suspected it needs a new proof"
    clock.proof(1_002_000, 1_002_001, 1_002_002, 2_002)
    assert clock.may_tick(1_003_000, 3_002)
    clock.proof(1_003_000, 1_009_000, 1_003_002, 3_004)
    assert not clock.may_tick(1_004_000, 4_002) and clock.off_ms == 5_998


def test_a_commit_of_other_topics_counts_for_nothing() -> None:
    here = Generation(1, 3)
    assert here.resume_at(17, here.encode()) == 17
    assert [here.resume_at(17, m) for m in (Generation(1, 4).encode(), Generation(0, 3).encode(), "", None)] == [0] * 4
    assert here.resume_at(-1001, None) == 0


def test_settings_go_to_every_partition_and_a_mark_to_that_of_its_device() -> None:
    routing = Routing(4)
    for key_ in ("settings/anomaly", "good/settings/anomaly", "good/policy"):
        assert [out.partition for out in routing.route(key_, b"{}", V, NEW).records] == [0, 1, 2, 3]
    mark = Mark("00112233445566ff", "false-alarm", "sensor-1", 5)
    key = mark_key(mark.incident)
    assert [out.partition for out in routing.route(key, mark.encode(), V, NEW).records] == [
        partition_of(b"sensor-1", 4)
    ]
    of_a_group = Mark("00112233445566ff", "confirmed", None, 5)
    assert len(routing.route(key, of_a_group.encode(), V, NEW).records) == 4
    assert routing.route(key, b"{}", V, NEW).broken is not None
