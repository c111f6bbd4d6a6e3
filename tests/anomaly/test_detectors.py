"""The language of detectors: every mistake at once, with its line; what is right survives the wire."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.vocabulary import Severity
from streams.anomaly.detectors import Detector, DetectorError, Kind, Rule, check, decode, default, shipped

MISTAKES = [
    ("", "f:1: the settings must be a mapping, not None"),
    ("rules: [", "f:1: not valid YAML"),
    ("{}", "f:1: 'rules' is missing"),
    ("rules: 5", "f:1: rules must be a list, not 5"),
    ("rule: []\nrules: []", "f:1: the settings: unknown key 'rule'; did you mean 'rules'?"),
    ("rules:\n- {metric: t}", "f:2: rule 1: 'detectors' is missing"),
    ("rules:\n- {metrics: t, detectors: []}", "f:2: rule 1: unknown key 'metrics'; did you mean 'metric'?"),
    ("rules:\n- {metric: 'a*', detectors: []}", "f:2: rule 1: metric must be a name, 'name.*' or '*', not 'a*'"),
    ("rules:\n- {channel: [a], detectors: []}", "f:2: rule 1: channel must be a name, 'name.*' or '*', not a list"),
    ("rules:\n- {role: 'a b', detectors: []}", "f:2: rule 1: role must match"),
    ("rules:\n- {labels: {site: [1]}, detectors: []}", "f:2: rule 1: labels: site must be a text, not a list"),
    ("rules:\n- detectors: [residul]", "f:2: rule 1: there is no detector 'residul'; did you mean 'residual'?"),
    (
        "rules:\n- detectors: [{rate: {max: 1/s}, stuck: {}}]",
        "f:2: rule 1: a detector is a kind, or one kind",
    ),
    ("rules:\n- detectors: [rate]", "f:2: rule 1: rate: 'max' is missing"),
    ("rules:\n- detectors: [rate: {max: 5}]", "f:2: rule 1: rate: max must be like 0.5/s, 5/min or 20/h, not 5"),
    ("rules:\n- detectors: [rate: {max: 0/s}]", "f:2: rule 1: rate: max must be from 1e-12 to 1e+30, not 0"),
    ("rules:\n- detectors: [limits: {for: 5s}]", "f:2: rule 1: limits: 'high' or 'low' is missing"),
    ("rules:\n- detectors: [limits: {low: 1, high_clear: 5}]", "'high_clear' means nothing without 'high'"),
    ("rules:\n- detectors: [limits: {high: 1, low: 5}]", "f:2: rule 1: limits: low 5 is above high 1"),
    ("rules:\n- detectors: [limits: {high: 1, high_clear: 2}]", "limits: high_clear 2 is above high 1"),
    ("rules:\n- detectors: [limits: {high: .inf}]", "limits: high must be a number, not inf"),
    (
        "rules:\n- detectors: [limits: {high: 1}, limits: {high: 2}]",
        "two detectors are called 'limits'; give one a `name`",
    ),
    ("rules:\n- detectors: [stuck, stuck: {name: b}]", "f:2: rule 1: more than 1 of kind stuck"),
    ("rules:\n- detectors: [stuck: {for: soon}]", "stuck: for must be like 30s, 15m, 2h or 7d, not 'soon'"),
    ("rules:\n- detectors: [stuck: {readings: 1}]", "stuck: readings must be a whole number from 2 to"),
    ("rules:\n- detectors: [silence: {times: 0}]", "silence: times must be from 1 to 1000, not 0"),
    ("rules:\n- detectors: [residual: {severity: bad}]", "severity must be one of info, warning, critical, not 'bad'"),
    ("rules:\n- detectors: [residual: {name: shift}]", "the name 'shift' is taken"),
    ("rules: []\nshifts: [{}]", "f:2: shift 1: 'group' is missing"),
    ("rules: []\nshifts: [{group: site, share: 0.3}]", "f:2: shift 1: share must be like 30 %, not 0.3"),
    ("rules: []\nshifts: [{group: site, share: 130 %}]", "shift 1: share must be like 30 %"),
    ("rules: []\nshifts: [{group: site, devices: 1}]", "shift 1: devices must be a whole number from 2"),
    ("rules: []\nshifts: [{group: site, within: 2d}]", "shift 1: within must be from 1s to 1d, not '2d'"),
    ("rules: []\nshifts:\n- {group: site}\n- {group: site}", "f:4: 'site' is given twice"),
    ("rules: []\nincidents: {quiet: 5}", "f:2: incidents: quiet must be like 30s"),
]


@pytest.mark.parametrize(("text", "mistake"), MISTAKES, ids=[m[1][:40] for m in MISTAKES])
def test_a_mistake_is_named_with_its_line(text: str, mistake: str) -> None:
    with pytest.raises(DetectorError) as caught:
        check(text, "f")
    assert any(mistake in found for found in caught.value.mistakes), caught.value.mistakes


def test_ten_mistakes_are_named_at_once_in_order_of_lines() -> None:
    text = """\
rules:
  - metric: "a b"
    role: [x]
    detectors:
      - limits: {high: hot, low_clear: 5}
      - rate: {max: fast}
      - stuk
      - silence: {times: 0.5}
  - {detectors: [rate], labels: 5}
shifts:
  - {group: site, share: lots}
"""
    with pytest.raises(DetectorError) as caught:
        check(text, "f")
    lines = [int(found.split(":")[1]) for found in caught.value.mistakes]
    assert lines == sorted(lines) == [2, 3, 5, 5, 6, 7, 8, 9, 9, 11], caught.value.mistakes


def test_the_shipped_settings_are_right_and_survive_the_wire() -> None:
    found = check(shipped(), "default.yaml")
    assert found == default() == decode(found.encode())
    assert {one.kind for one in found.rules[-1].detectors} >= {Kind.RESIDUAL, Kind.SILENCE}
    assert found.rules[-1] == Rule(detectors=found.rules[-1].detectors), "every series is watched"


def test_parameters_have_their_units() -> None:
    text = """\
rules:
- metric: temp.*
  role: motor
  labels: {site: north, floor: 3}
  detectors:
  - limits: {high: 80, high_clear: 7.5e1, for: 2m, name: hot, severity: critical}
  - rate: {max: 6/min}
  - stuck: {for: 2h}
  - silence
"""
    found = check(text, "f")
    assert found == decode(found.encode())
    assert found.rules == (
        Rule(
            "temp.*",
            "*",
            "motor",
            {"site": "north", "floor": "3"},
            (
                Detector(Kind.LIMITS, "hot", Severity.CRITICAL, {"high": 80.0, "high_clear": 75.0, "for": 120.0}),
                Detector(Kind.RATE, "rate", Severity.WARNING, {"max": 0.1}),
                Detector(Kind.STUCK, "stuck", Severity.WARNING, {"for": 7200.0}),
                Detector(Kind.SILENCE, "silence", Severity.WARNING, {"times": 3.0}),
            ),
        ),
    )


_scalars = st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=8))
_words = st.sampled_from(
    [
        "rules",
        "detectors",
        "metric",
        "residual",
        "limits",
        "rate",
        "max",
        "5/min",
        "for",
        "1h",
        "shifts",
        "group",
        "high",
    ]
)
_plain = st.recursive(
    st.one_of(_scalars, _words),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_words, inner, max_size=4)),
    max_leaves=20,
)


@settings(max_examples=300)
@given(_plain, st.binary(max_size=60))
def test_nothing_but_mistakes_comes_of_nonsense(value: object, blob: bytes) -> None:
    for text in (repr(value), blob.decode("utf-8", "replace")):
        with contextlib.suppress(DetectorError):
            found = check(text, "f")
            assert decode(found.encode()) == found
    with contextlib.suppress(DetectorError):
        decode(blob)
