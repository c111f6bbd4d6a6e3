"""What the registry says of devices, by number: later versions count, a restart knows the same."""

from typing import Any

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from runtime.columns.devices import NONE, DeviceTable
from runtime.columns.registry import ROLE, RegistryColumns
from schemas.control import Device, device_key
from schemas.headers import Version

IDS = [f"dev-{n}" for n in range(6)]
LABELS = st.dictionaries(st.sampled_from(["site", "model", "role"]), st.sampled_from(["a", "b", "ö"]), max_size=2)
RECORDS = st.lists(
    st.tuples(
        st.sampled_from(IDS),
        st.integers(0, 9),
        st.one_of(
            st.none(),
            st.tuples(st.sampled_from(["motor", "meter"]), LABELS, st.sampled_from(["active", "removed"])),
        ),
    ),
    max_size=40,
)


def contents(registry: RegistryColumns) -> Any:
    devices = registry.devices
    fields = {}
    for field in (ROLE, "site", "model"):
        codes = registry.values(field).tolist()
        fields[field] = [None if c == NONE else registry.word(field, c) for c in codes]
    return [devices.name(n) for n in range(devices.size)], fields, registry.removed().tolist()


def restarted(registry: RegistryColumns) -> RegistryColumns:
    devices = DeviceTable()
    devices.restore(registry.devices.stored())
    found = RegistryColumns(devices)
    found.restore(registry.freeze())
    return found


@given(RECORDS)
def test_the_latest_version_counts_and_a_restart_knows_the_same(records: Any) -> None:
    registry, again = RegistryColumns(DeviceTable()), RegistryColumns(DeviceTable())
    latest: dict[str, tuple[int, Any]] = {}
    for name, offset, said in records:
        device = None if said is None else Device(name, said[0], labels=said[1], state=said[2])
        value = b"" if device is None else device.encode(with_token=False)
        news = name not in latest or offset > latest[name][0]
        latest[name] = (offset, device) if news else latest[name]
        for one in (registry, again):
            assert (one.take(device_key(name), Version(0, offset), value) != NONE) is news
        again = restarted(again)
    names, fields, removed = contents(registry)
    assert contents(again) == (names, fields, removed)
    for n, name in enumerate(names):
        device = latest[name][1]
        labels = {} if device is None else {**device.labels, ROLE: device.role}
        assert {field: fields[field][n] for field in fields} == {field: labels.get(field) for field in fields}
        assert removed[n] is (device is None or device.state == "removed"), "a tombstone removes"


def test_a_broken_record_takes_role_and_labels_until_the_next_good_one() -> None:
    registry = RegistryColumns(DeviceTable())
    good = Device("a", "motor").encode()
    for n, value in enumerate(
        (b"[]", b"{}", b"\xff", b'{"id":"a","role":"x","labels":[1]}', Device("b", "m").encode())
    ):
        assert registry.take("device/a", Version(0, 2 * n), good) == 0
        assert registry.kind(int(registry.kinds()[0])) == {ROLE: "motor"}
        assert registry.take("device/a", Version(0, 2 * n + 1), value) == 0
        assert registry.kinds().tolist() == [NONE] and registry.removed().tolist() == [False]
    before = contents(registry)
    assert registry.take("device/NO", Version(0, 99), b"{}") == NONE
    assert registry.take("policy", Version(0, 99), b"{}") == NONE
    assert contents(registry) == before and registry.refused == 5


def test_devices_that_are_only_heard_of_have_no_values() -> None:
    devices = DeviceTable()
    registry = RegistryColumns(devices)
    for n in range(3000):
        devices.add(f"s-{n}")
    assert (
        registry.take("device/s-2999", Version(0, 1), Device("s-2999", "motor", labels={"site": "n"}).encode()) == 2999
    )
    assert (registry.values("site")[:2999] == NONE).all() and registry.word(
        "site", registry.values("site")[2999]
    ) == "n"
    assert registry.code("site", "n") == 0 and registry.code("site", "m") == NONE
    assert registry.values("site", np.array([5, 2999])).tolist() == [NONE, 0]
    assert len(registry.kinds()) == len(registry.removed()) == 3000


def test_labels_that_are_no_texts_break_the_record() -> None:
    registry = RegistryColumns(DeviceTable())
    value = orjson.dumps({"id": "a", "role": "motor", "labels": {"site": 5, "model": "x"}})
    assert registry.take("device/a", Version(0, 1), value) == 0
    assert registry.kinds().tolist() == [NONE] and registry.refused == 1
    assert np.array_equal(registry.values("site"), [NONE])
