import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.access.policy import SHIPPED, MetricRule, Policy, PolicyError, Rate, Role, check, decode, shipped

MISTAKES = [
    ("", "f:1: the policy must be a mapping, not None"),
    ("roles: [", "f:1: not valid YAML"),
    ("{}", "f:1: 'roles' is missing"),
    ("roles: 5", "f:1: roles must be a mapping, not 5"),
    ("rolls: {}\nroles: {}", "f:1: the policy: unknown key 'rolls'; did you mean 'roles'?"),
    ("roles:\n  a: {}", "f:2: role a: 'publish' is missing"),
    ("roles:\n  a: {publish: telemetry/x}", "f:2: role a: publish must be a list"),
    ("roles:\n  a:\n    publish:\n    - telemetri/x", "f:4: role a: publish: 'telemetri/x' begins with no branch"),
    ("roles:\n  a: {publish: [telemetry]}", "has 0 names after the branch; expected telemetry/{name}"),
    ("roles:\n  a: {publish: [telemetry/+]}", "names must be * or match"),
    ("roles:\n  a: {publish: [control/x]}", "expected control/{name}/{name}"),
    ("roles:\n  'a b': {publish: []}", "f:2: role 'a b': names must match"),
    ("roles:\n  a: {publish: []}\n  a: {publish: []}", "f:3: roles: 'a' is given twice"),
    ("roles:\n  a: {publish: [], metrics: [t]}", "metrics must be a mapping, not a list"),
    ("roles:\n  a: {publish: [], metrics: {t: {min: 5, max: 1}}}", "f:2: role a: metrics: t: min 5 is above max 1"),
    ("roles:\n  a: {publish: [], metrics: {t: {min: low}}}", "metrics: t: min must be a number, not 'low'"),
    ("roles:\n  a: {publish: [], metrics: {t: {max: .inf}}}", "metrics: t: max must be a number"),
    ("roles:\n  a: {publish: [], metrics: {t: {max: true}}}", "metrics: t: max must be a number"),
    ("roles:\n  a: {publish: [], metrics: {'a*b': {}}}", "'a*b' is not a metric"),
    ("roles:\n  a: {publish: [], metrics: {t: allow}}", "metrics: t must be a mapping, not 'allow'"),
    ("roles:\n  a: {publish: [], metrics: {t: {out_of_range: drop}}}", "out_of_range must be keep or refuse"),
    ("roles:\n  a: {publish: [], rate: 10}", "rate must be like 10/s"),
    ("roles:\n  a: {publish: [], rate: 10/x}", "rate must be like 10/s"),
    ("roles:\n  a: {publish: [], rate: 0/s}", "rate must be like 10/s"),
    ("roles:\n  a: {publish: [], burst: 5}", "'burst' means nothing without 'rate'"),
    ("roles:\n  a: {publish: [], bytes: 0}", "bytes must be a whole number from 1"),
    ("roles:\n  a: {publish: [], bytes: 1.5}", "bytes must be a whole number from 1"),
    ("roles:\n  a: {publish: [], max_age: never}", "max_age must be like 400d, 36h, 15m, 30s or unlimited"),
    ("roles:\n  a: {publish: []}\nunknown: b", "f:3: unknown: 'b' is not a role of this policy"),
    ("roles:\n  a: {publish: [], bytes: 2001-99-99}", "f:2: '2001-99-99' is no timestamp"),
    ("roles: &x {y: *x}", "an alias that contains itself"),
]


@pytest.mark.parametrize(("text", "mistake"), MISTAKES, ids=[m[1][:40] for m in MISTAKES])
def test_a_mistake_is_named_with_its_line(text: str, mistake: str) -> None:
    with pytest.raises(PolicyError) as caught:
        check(text, "f")
    assert any(mistake in found for found in caught.value.mistakes), caught.value.mistakes


def test_every_mistake_is_named_at_once_in_order_of_lines() -> None:
    text = """\
roles:
  a:
    publish: [telemetry/x, nonsense/y]
    rate: fast
    bits: 4
  b: {rate: 1/s}
unknown: c
"""
    with pytest.raises(PolicyError) as caught:
        check(text, "policy.yaml")
    assert [m.split(": ")[0] for m in caught.value.mistakes] == [f"policy.yaml:{n}" for n in (3, 4, 5, 6, 7)]
    assert "did you mean 'bytes'" in caught.value.mistakes[2]


def test_only_publish_is_required_and_the_rest_has_defaults() -> None:
    role = check("roles: {a: {publish: [telemetry/x]}}", "f").roles["a"]
    assert role == Role(("telemetry/x",), None, None, None, None, 400 * 86_400, 86_400)


def test_the_example_of_the_documentation() -> None:
    text = """
roles: {temperature-sensor: {publish: [telemetry/climate], metrics: {temperature: {min: -50, max: 80}},
        rate: 10/s, bytes: 4096}}
"""
    role = check(text, "f").roles["temperature-sensor"]
    assert role.metrics == (MetricRule("temperature", False, -50.0, 80.0),)
    assert role.rate == Rate(10.0, "s") and role.rate.interval_us == 100_000
    assert role.burst_messages == 9_000, "a quarter of an hour"
    assert role.bytes == 4096


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_policy_is_right_and_survives_the_wire(name: str) -> None:
    policy = check(shipped(name), f"{name}.yaml")
    assert {"temperature-sensor", "motor", "meter", "gateway", "history"} <= set(policy.roles)
    assert decode(policy.encode()) == policy


def test_the_loopback_policy_is_the_default_one_with_a_role_for_unregistered_devices() -> None:
    default, loopback = (check(shipped(name), name) for name in ("default", "loopback"))
    assert default.unknown is None
    assert loopback.unknown == "visitor"
    assert {k: v for k, v in loopback.roles.items() if k != "visitor"} == default.roles


def test_a_name_that_is_not_shipped_is_refused() -> None:
    with pytest.raises(KeyError):
        shipped("../default")


numbers = st.floats(-1e12, 1e12, allow_nan=False)
rules = st.one_of(
    st.builds(MetricRule, st.just("*"), st.booleans()),
    st.builds(
        lambda name, low, high, refuse: MetricRule(name, False, min(low, high), max(low, high), refuse),
        st.from_regex(r"[a-z.]{1,9}(\.\*)?", fullmatch=True),
        numbers,
        numbers,
        st.booleans(),
    ),
)
roles = st.builds(
    Role,
    st.lists(st.sampled_from(["telemetry/a", "telemetry/*", "config", "event/*", "control/*/on"]), unique=True).map(
        tuple
    ),
    st.none()
    | st.lists(rules, unique_by=lambda r: r.pattern).map(lambda found: tuple(sorted(found, key=lambda r: r.pattern))),
    st.builds(Rate, st.floats(1, 1e6).map(lambda x: round(x, 6)), st.sampled_from("smhd")),
    st.none() | st.integers(1, 10**6),
    st.none() | st.integers(1, 10**6),
    st.none() | st.integers(0, 10**9),
    st.none() | st.integers(0, 10**9),
)


@settings(max_examples=40)
@given(st.dictionaries(st.from_regex(r"[a-z-]{1,8}", fullmatch=True), roles, max_size=3))
def test_any_policy_survives_the_wire(found: dict[str, Role]) -> None:
    policy = Policy(found, next(iter(found), None))
    assert decode(policy.encode()) == policy


def mistakes(text: str) -> list[str]:
    try:
        check(text, "f")
    except PolicyError as error:
        return error.mistakes
    return ["f:"]


@given(st.text(max_size=200))
def test_any_text_is_a_policy_or_has_mistakes_with_lines(text: str) -> None:
    found = mistakes(text)
    assert found and all(m.startswith("f:") for m in found)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_policy_or_refused(value: bytes) -> None:
    with contextlib.suppress(PolicyError):
        decode(value)
