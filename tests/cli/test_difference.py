"""What a new policy would change, before it is published."""

from cli.difference import lines, of_policies
from schemas.control import Device
from streams.access.policy import Policy, check, shipped

ONE = "roles:\n  meter: {publish: [telemetry/meter]}\nunknown: meter\n"


def policy(text: str) -> Policy:
    return check(text, "test")


def test_a_removed_role_names_how_many_devices_would_be_denied() -> None:
    devices = [Device("a", "motor"), Device("b", "motor"), Device("c", "motor", state="removed"), Device("d", "meter")]
    change = of_policies(policy(shipped("default")), policy(ONE), devices)
    assert "motor" in change.removed and change.takes_away
    said = list(change.summary())
    assert "removed: motor: 2 active devices have it and would be denied" in said
    assert "changed: meter" in said
    assert "unknown devices have role meter; until now they are denied" in said


def test_a_role_that_is_added_or_changed_takes_nothing_away() -> None:
    more = ONE.replace("unknown", "  motor: {publish: [telemetry/motor]}\nunknown").replace(
        "telemetry/meter", "event/*"
    )
    change = of_policies(policy(ONE), policy(more), ())
    assert (change.added, change.removed, change.changed) == (("motor",), (), ("meter",))
    assert not change.takes_away
    assert change.brief() == "+motor ~meter"


def test_unknown_devices_that_lose_their_role_are_asked_about() -> None:
    change = of_policies(policy(ONE), policy(ONE.replace("unknown: meter", "unknown: null")), ())
    assert change.takes_away
    assert list(change.summary()) == ["unknown devices are denied; until now they have role meter"]


def test_the_first_policy_takes_nothing_away() -> None:
    change = of_policies(None, policy(ONE), ())
    assert not change.takes_away and change.added == ("meter",)


def test_a_difference_is_as_show_prints_it_and_empty_for_the_same() -> None:
    old, new = policy(ONE).plain(), policy(ONE.replace("telemetry/meter", "event/*")).plain()
    assert lines(old, old, "a", "b") == []
    found = lines(old, new, "policy 0/13", "new.yaml")
    assert found[:2] == ["--- policy 0/13", "+++ new.yaml"]
    assert "-    - telemetry/meter" in found and "+    - event/*" in found
    assert all(line.startswith("+") for line in lines(None, new, "nothing", "b")[3:])
