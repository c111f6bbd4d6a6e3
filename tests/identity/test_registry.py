"""What the registry lets happen: tables of devices in, changed devices or every mistake out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.registry import core
from identity.registry.core import RegistryError
from schemas.control import Device, token_hash

ROLES = ("meter", "gateway")
KNOWN = {
    d.id: d
    for d in (
        Device("gate-1", "gateway", token="t1"),
        Device("meter-1", "meter", parent="gate-1", token="t2"),
        Device("meter-2", "meter", token="t3"),
        Device("old-1", "meter", state="removed"),
    )
}


def mistakes(call: object, *arguments: object) -> list[str]:
    with pytest.raises(RegistryError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.mistakes


def test_new_devices_are_added_as_given() -> None:
    wanted = [Device("meter-9", "meter", labels={"site": "north"}), Device("meter-8", "meter", parent="gate-1")]
    assert core.add(KNOWN, wanted, ROLES) == wanted


def test_a_parent_may_come_in_the_same_call_and_a_removed_id_again() -> None:
    assert core.add(KNOWN, [Device("m", "meter", parent="g"), Device("g", "gateway")], ROLES)
    assert core.add(KNOWN, [Device("old-1", "meter")], ROLES)[0].state == "active"


def test_any_role_will_do_while_there_is_no_policy() -> None:
    assert core.add({}, [Device("a", "anything")], None)


def test_every_mistake_is_told_at_once() -> None:
    wanted = [
        Device("Upper/Case", "meter"),
        Device("meter-1", "meter"),
        Device("twin", "meter"),
        Device("twin", "meter"),
        Device("a", "metre"),
        Device("b", "no role"),
        Device("c", "meter", parent="c"),
        Device("d", "meter", parent="nobody"),
        Device("e", "meter", parent="old-1"),
        Device("f", "meter", labels={"a b": "x", "long": "x" * 257}),
        Device("g", "meter", labels={f"l{i}": "" for i in range(33)}),
    ]
    assert mistakes(core.add, KNOWN, wanted, ROLES) == [
        "twin: is given 2 times",
        "'Upper/Case': a device id must match [a-z0-9-]{1,64}",
        "meter-1: is enrolled already, with role meter; `millrace device renew meter-1 --cert DIR` issues another"
        " certificate",
        "a: the policy has no role 'metre'; it has gateway, meter",
        "b: role 'no role' must match [A-Za-z0-9_.-]{1,64}",
        "c: cannot be its own parent",
        "d: its parent 'nobody' is not enrolled",
        "e: its parent 'old-1' is not enrolled",
        "f: label 'a b' must match [A-Za-z0-9_.-]{1,64}",
        "f: label long: its value is longer than 256 characters",
        "g: has 33 labels; at most 32",
    ]


def test_removal_keeps_the_record_and_takes_the_token() -> None:
    (device,) = core.remove(KNOWN, ["meter-1"])
    assert (device.state, device.token, device.role, device.parent) == ("removed", None, "meter", "gate-1")


def test_a_parent_goes_only_with_its_children() -> None:
    assert mistakes(core.remove, KNOWN, ["gate-1", "nobody", "old-1", "X"]) == [
        "nobody: no such device",
        "old-1: was removed",
        "'X': a device id must match [a-z0-9-]{1,64}",
        "gate-1: is the parent of meter-1; remove those too",
    ]
    assert len(core.remove(KNOWN, ["gate-1", "meter-1"])) == 2


def test_a_change_of_role_keeps_the_token() -> None:
    (device,) = core.change_role(KNOWN, ["meter-2"], "gateway", ROLES)
    assert (device.role, device.token) == ("gateway", "t3")
    assert len(mistakes(core.change_role, KNOWN, ["nobody", "old-1"], "metre", ROLES)) == 3


@given(st.integers(0, 20))
def test_tokens_are_long_different_and_kept_only_as_hashes(count: int) -> None:
    ids = [f"device-{i}" for i in range(count)]
    devices, tokens = core.with_tokens([Device(name, "meter") for name in ids])
    assert list(tokens) == ids and len(set(tokens.values())) == len(ids)
    for device in devices:
        assert len(tokens[device.id]) == 43 and device.token == token_hash(tokens[device.id])
        assert tokens[device.id].encode() not in device.encode()
