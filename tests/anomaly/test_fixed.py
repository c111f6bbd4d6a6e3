"""Limits, rate and stuck value: what they find, and that it is the same however readings are cut into records."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.anomaly.core.points import excess_score
from tests.anomaly.partition import Partition

ALL = """\
rules:
- detectors:
  - limits: {high: 80, high_clear: 70, low: 10, low_clear: 20}
  - limits: {high: 90, for: 2m, name: hot, severity: critical}
  - rate: {max: 30/min}
  - stuck: {readings: 3}
"""


def run(text: str, values: list[float], step_s: float = 60) -> Partition:
    found = Partition(text)
    for value in values:
        found.say(value)
        found.tick(step_s)
    return found


def values(found: Partition, detector: str = "limits") -> list[float]:
    return [row["value"] for row in found.anomalies if row["detector"] == detector]


@pytest.mark.parametrize(
    ("given_", "strange"),
    [
        ([50, 81, 75, 71, 70, 75, 50], [81, 75, 71]),  # strange until it is back at high_clear
        ([50, 9, 15, 19, 20, 15], [9, 15, 19]),
        ([81, 5, 15, 25], [81, 5, 15]),  # from one side to the other
        ([80, 10, 50], []),  # the limits themselves are good
    ],
)
def test_limits_have_hysteresis(given_: list[float], strange: list[float]) -> None:
    found = run("rules:\n- detectors: [limits: {high: 80, high_clear: 70, low: 10, low_clear: 20}]", given_)
    assert values(found) == strange


def test_limits_may_have_to_last() -> None:
    text = "rules:\n- detectors: [limits: {high: 80, for: 3m}]"
    assert values(run(text, [81, 82, 50, 83, 84, 85, 86, 87])) == [86, 87]


def test_a_rate_is_measured_over_the_time_between_readings() -> None:
    text = "rules:\n- detectors: [rate: {max: 5/min}]"
    assert values(run(text, [20, 26, 30, 20]), "rate") == [26, 20]
    assert values(run(text, [20, 26, 30, 20], step_s=120), "rate") == []
    found = run(text, [20, 50])
    assert found.anomalies[0]["explanation"] == "50, 20 before: 30/min, at most 5/min"
    assert (found.anomalies[0]["low"], found.anomalies[0]["high"]) == (15, 25)


def test_a_reading_of_the_same_or_an_earlier_time_has_no_rate() -> None:
    found = Partition("rules:\n- detectors: [rate: {max: 1/s}]")
    found.say(1.0, 500.0, {"value": -500.0, "time": found.now_ms - 10**12})
    assert not found.anomalies


@pytest.mark.parametrize(("bound", "first"), [("readings: 4", 3), ("for: 5m", 5)])
def test_a_value_may_repeat_so_often_or_for_so_long(bound: str, first: int) -> None:
    found = run(f"rules:\n- detectors: [stuck: {{{bound}}}]", [1, 2, 3, *[7.5] * 8, 8, 8])
    assert [row["time"] for row in found.anomalies] == [found.now_ms - (10 - n) * 60_000 for n in range(first, 8)]


def test_how_long_a_value_usually_repeats_is_learnt() -> None:
    text = "rules:\n- detectors: [stuck: {times: 4}]"
    usual = [float(n // 10) for n in range(400)]  # ten of each
    assert not run(text, usual).anomalies
    found = run(text, [*usual, *[-1.0] * 60])
    assert len(found.anomalies) == 20, "the first twenty that are written of 21 from the fortieth on"
    assert found.opened()[0]["explanation"].startswith("-1 for 40 readings")
    assert not run(text, [5.0] * 300).anomalies, "what never changed is not known to change"


def test_what_raised_an_alarm_takes_a_few_times_to_be_usual() -> None:
    text = "rules:\n- detectors: [stuck: {times: 4}]\nincidents: {quiet: 1m, cool_down: 1m}"
    night = [0.0] * 300 + [float(n) for n in range(1, 60)]
    found = run(text, [*[float(n) for n in range(60)], *night * 6])
    assert 2 <= len(found.opened()) <= 4


READINGS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([5.0, 15.0, 50.0, 75.0, 85.0, 95.0, 1e300, -1e300])), max_size=40
)


@settings(max_examples=60)
@given(READINGS, st.lists(st.integers(0, 40), max_size=8))
@example([(0, 5.0), (0, 5.0), (0, 15.0), (0, 5.0), (0, 5.0), (0, 5.0)], [])
def test_any_cut_into_records_finds_the_same(readings: list[tuple[int, float]], cuts: list[int]) -> None:
    assert _cut(readings, cuts) == _cut(readings, list(range(len(readings))))


def _cut(readings: list[tuple[int, float]], cuts: list[int]) -> list[Any]:
    found = Partition(ALL)
    rows = [
        {"device": f"d-{device}", "value": value, "time": found.now_ms + 40_000 * n, "received_at": found.now_ms}
        for n, (device, value) in enumerate(readings)
    ]
    bounds = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    for start, end in pairwise(bounds):
        found.say(*rows[start:end])
    columns = ("device", "detector", "time", "value", "score", "low", "high", "severity", "explanation")
    # the usual length of a run is learnt once per record, so the text after "usual are" depends on the cut
    for row in found.anomalies:
        row["explanation"] = row["explanation"].split("; usual are")[0]
    return sorted(tuple(map(str, (row[name] for name in columns))) for row in found.anomalies)


def test_a_score_is_half_at_the_limit_and_never_more_than_one() -> None:
    scores = excess_score(np.array([-5.0, 0.0, 1.0, 1e300, math.inf]))
    assert scores.tolist()[:3] == [0.5, 0.5, 0.75] and 0.99 < scores[3] <= scores[4] <= 1
