"""Settings and registry in band: in force at an offset, a broken one changes nothing. And what nobody should say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.columns.series import PER_DEVICE
from runtime.stage.contract import Record
from schemas.control import POLICY_KEY, Device
from schemas.headers import kind_of, table
from streams.access.core.stage import AccessStage
from streams.access.policy import check as policy
from streams.access.policy import shipped as shipped_policy
from streams.anomaly.core.residual import WARM_UP
from streams.anomaly.core.state import SETTINGS_KEY
from tests.access import support as raw
from tests.anomaly import support
from tests.anomaly.partition import Partition

ROLES = """\
rules:
- {role: motor, metric: temp.*, detectors: [limits: {high: 100}]}
- {labels: {site: north}, detectors: [limits: {high: 50, name: north}]}
- {channel: lab, detectors: []}
- {metric: "*", detectors: [limits: {high: 10}]}
"""


def test_the_first_rule_that_fits_counts() -> None:
    found = Partition(ROLES)
    found.register("m", "motor", site="north")
    found.register("n", "meter", site="north")
    found.register("s", "meter", site="south")
    found.say(
        *({"device": device, "metric": "temp.inner", "value": 60.0} for device in "mnsx"),
        {"device": "m", "metric": "rpm", "value": 60.0},
        {"device": "s", "metric": "rpm", "channel": "lab", "value": 60.0},
    )
    told = sorted((row["device"], row["metric"], row["detector"]) for row in found.opened())
    assert told == [
        ("m", "rpm", "north"),
        ("n", "temp.inner", "north"),
        ("s", "temp.inner", "limits"),
        ("x", "temp.inner", "limits"),
    ]


def test_another_role_or_label_brings_other_rules_and_closes_what_was_open() -> None:
    found = Partition(ROLES)
    found.say({"device": "d", "metric": "temp.a", "value": 60.0})
    found.register("d", "motor")
    found.say({"device": "d", "metric": "temp.a", "value": 60.0})
    assert found.states() == ["opened"], "of the same name and kind: it goes on, and closes when it is quiet"
    found.register("d", "meter", site="north")
    found.say({"device": "d", "metric": "temp.a", "value": 60.0})
    assert [(row["state"], row["detector"]) for row in found.incidents] == [
        ("opened", "limits"),
        ("closed", "limits"),
        ("opened", "north"),
    ]


def test_settings_are_in_force_from_their_offset_on_and_a_broken_one_changes_nothing() -> None:
    found = Partition()
    found.say(5000.0)
    found.settings("rules:\n- detectors: [limits: {high: 80}]")
    for broken in (b"{", b"{}", b'{"rules":[{"detectors":["limits"]}]}', b"\xff"):
        found.take(support.control(found.offset, SETTINGS_KEY, broken))
    found.say(81.0)
    assert [row["detector"] for row in found.opened()] == ["limits"] and found.state.settings.refused == 4
    found.settings("rules: []")
    assert found.states() == ["opened", "closed"]
    found.say(81.0)
    found.tick(10**6)
    assert len(found.incidents) == 2


def test_until_it_is_warm_the_shipped_detectors_say_nothing_and_the_state_says_so() -> None:
    found, r = Partition(), np.random.default_rng(1)
    for n in range(WARM_UP - 1):
        found.say(float(r.normal(20, 1)) if n != 60 else 900.0)
        found.tick(60)
    assert not found.anomalies and found.state.sizes()["warming"] == 1
    found.say(20.0)
    found.tick(60)
    assert found.state.sizes()["warming"] == 0
    for _ in range(300):
        found.say(float(r.normal(20, 1)))
        found.tick(60)
    assert not found.anomalies
    found.say(900.0)
    (row,) = found.anomalies
    assert row["detector"] == "residual" and row["low"] > 10 and row["high"] < 30
    assert row["explanation"].startswith("900; usual at this hour ")


def test_more_metrics_than_a_device_may_have_are_refused_and_counted() -> None:
    found, refused = Partition(), 0
    found.say({"device": "good", "value": 1.0})
    for start in range(0, 100_000, 20_000):
        found.say(*({"device": "bad", "metric": f"m{n}", "value": 1.0} for n in range(start, start + 20_000)))
        refused += found.state.seen.refused["device_series"]
    assert refused == 100_000 - PER_DEVICE and found.state.sizes()["series"] == PER_DEVICE + 1


NAMES = st.text(min_size=1, max_size=30)
HOSTILE = st.sampled_from([float("nan"), float("inf"), float("-inf"), 1e300, -1e300, 5e-324, 0.0])


@settings(max_examples=60)
@given(st.lists(st.tuples(NAMES, HOSTILE, st.integers(-(2**40), 2**42)), max_size=60))
def test_no_name_value_or_time_breaks_it(rows: list[tuple[str, float, int]]) -> None:
    some = "residual, limits: {high: 1, low: -1, for: 1s}, rate: {max: 1/s}, stuck, silence: {for: 2m}"
    found = Partition(f"rules:\n- detectors: [{some}]")
    for metric, value, time_ms in rows:
        found.say({"metric": metric, "value": value, "time": time_ms})
    found.tick(200)
    seen = [row for row in rows if np.isfinite(row[1])]
    assert found.state.sizes()["series"] == len({row[0] for row in rows})
    assert all(row["metric"] in {name for name, _, _ in seen} for row in found.anomalies)
    assert all(0.5 <= row["score"] <= 1 and row["explanation"] for row in found.anomalies)


@pytest.mark.parametrize("rows", [[], [{"text": "on"}], [{"verdict": 4, "metric": "event/offline"}], [{"verdict": 1}]])
def test_records_without_a_number_tell_nothing(rows: list[dict[str, object]]) -> None:
    found = Partition()
    found.say(*rows)
    assert found.state.seen.readings == 0 and not found.anomalies and found.state.sizes()["series"] == 0


def test_what_access_writes_is_what_is_read_here() -> None:
    """Messages of devices and of a gateway for its child, through access, then judged."""
    access, found = AccessStage().create(0), Partition("rules:\n- detectors: [limits: {high: 80}]")
    records = [
        raw.control(0, POLICY_KEY, policy(shipped_policy("loopback"), "loopback").encode()),
        raw.registered(1, Device("gw-1", "gateway")),
        raw.registered(2, Device("child-1", "temperature-sensor", parent="gw-1")),
        raw.data(
            3,
            [
                raw.message("s-1", '{"temperature":81.5,"humidity":40,"state":"on"}'),
                raw.message("gw-1", '[{"device":"child-1","temperature":99}]'),
                raw.message("s-2", "{broken"),
            ],
        ),
        raw.tick(4, support.NOW_MS + 5000),
    ]
    for record in records:
        (answer,) = access.apply(record)
        headers = table(answer.headers)
        found.take(Record(0, record.offset, 0, record.offset, kind_of(headers), headers, answer.value))
    told = [(row["device"], row["publisher"], row["channel"], row["metric"], row["value"]) for row in found.anomalies]
    assert told == [
        ("s-1", "s-1", "climate", "temperature", 81.5),
        ("child-1", "gw-1", "climate", "temperature", 99.0),
    ]
    assert [row["publisher"] for row in found.opened()] == ["s-1", "gw-1"]
    assert found.state.parts.now_ms == support.NOW_MS + 5000
