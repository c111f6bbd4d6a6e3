"""The parts alone: deadlines, what is learned from gaps, heat, rules, and how large a state can get."""

import contextlib
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.checking.checker import Mistakes
from streams.presence.core import damping
from streams.presence.core import devices as devices_module
from streams.presence.core.deadlines import NEVER, Deadlines
from streams.presence.core.devices import Devices, Is
from streams.presence.core.watch import Watch
from streams.presence.rules import Rules, check, decode, default, shipped
from tests.presence.support import NOW_MS, data, row
from tests.presence.timeline import Timeline
from tests.support.states import stored

STEP = st.one_of(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 60)), max_size=30),
    st.integers(0, 40),
)
"""Deadlines that are put, or time that passes."""


@settings(max_examples=200, deadline=None)
@given(st.lists(STEP, max_size=40), st.integers(1, 40))
def test_deadlines_are_found_when_they_pass_and_not_before(steps: list[Any], most: int) -> None:
    deadlines, expected, now = Deadlines(5001), dict[int, int](), 0
    for step in steps:
        if isinstance(step, list):
            put = {device: now + after for device, after in step}
            expected |= put
            deadlines.put(np.array(list(put), np.int32), np.array(list(put.values()), np.int64))
            continue
        now += step
        found = deadlines.passed(now, most)
        over = sorted(device for device, due in expected.items() if due <= now)
        assert found.tolist() == over[:most]
        deadlines.put(found, np.full(len(found), NEVER))
        for device in found.tolist():
            del expected[device]


def test_a_tick_in_which_nothing_is_due_looks_at_no_device() -> None:
    deadlines = Deadlines(250_000)
    deadlines.put(np.arange(250_000, dtype=np.int32), np.arange(250_000) + 1_000_000)
    deadlines.due = None  # type: ignore[assignment]  # nobody may look
    assert len(deadlines.passed(999_999, 10)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_irregular_devices_are_seldom_told_to_be_silent(seed: int) -> None:
    r = random.Random(seed)
    t = Timeline()
    names = [f"d-{n}" for n in range(40)]
    next_at = dict.fromkeys(names, 0.0)
    gaps = 0
    for _ in range(4_000):
        due = [name for name in names if next_at[name] <= t.second]
        for name in due:
            next_at[name] = t.second + r.expovariate(1 / 40)
        gaps += len(due)
        if due:
            t.says(*due)
        t.at(t.second + 2, every=2)
    false = sum(one["reason"] == "silence" for one in t.rows)
    assert gaps > 6_000 and false <= gaps / 1_000


@given(st.lists(st.tuples(st.integers(0, 700), st.integers(1, 9)), max_size=60))
def test_heat_rises_with_changes_and_is_gone_in_time(steps: list[tuple[int, int]]) -> None:
    rules = Rules(changes=5, within_ms=600_000)
    heat, now = np.array([devices_module.BEFORE]), 0
    for after, changes in steps:
        now += after * 1000
        before = max(int(heat[0]) - now, 0)
        heat = damping.heated(heat, now, np.array([changes], np.int32), rules)
        assert heat[0] - now == min(before + changes * 120_000, 900_000)
        assert damping.is_restless(heat, now, rules)[0] == (before + changes * 120_000 > 600_000)
    assert damping.is_calm(heat, now + rules.within_ms, rules)[0]


def test_more_changes_than_allowed_within_the_time_make_a_device_restless_and_no_fewer() -> None:
    for changes, within_ms in ((1, 1_000), (6, 3_600_000), (7, 60_000), (500, 500_000)):
        rules = Rules(changes=changes, within_ms=within_ms)
        none = np.array([devices_module.BEFORE])
        for count in (changes, changes + 1):
            heat = damping.heated(none, 5, np.array([count], np.int32), rules)
            assert damping.is_restless(heat, 5, rules)[0] == (count > changes)


# --- rules


def test_the_shipped_rules_are_those_of_the_code_and_survive_their_encoding() -> None:
    assert default() == Rules() == check("{}", "t") == check(shipped(), "t")
    changed = check("{silence: {factor: 2.5, least: 90s, most: 2d}, flaps: {changes: 3, within: 90m}, settle: 0s}", "t")
    assert decode(changed.encode()) == changed != default()
    assert check(str(changed.plain()), "t") == changed


def test_every_mistake_is_named_with_its_line() -> None:
    text = """\
silence:
  factor: 0.5
  least: ten
  most: 3
  unknown: -1d
  standstill: 1s
  lest: 3s
flaps:
  changes: 1.5
  within: 500d
  within: 1h
settle: [5s]
sttle: 5s
"""
    with pytest.raises(Mistakes) as found:
        check(text, "p.yaml")
    lines = [mistake.split(": ", 1)[0] for mistake in found.value.mistakes]
    assert lines == [f"p.yaml:{n}" for n in (2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13)]
    assert "did you mean 'least'?" in found.value.mistakes[5]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("silence: {least: 2d, most: 1d}", "least is 2d, above most, which is 1d"),
        ("silence: {least: 5s}", "standstill is 10s, above least, which is 5s"),
        ("flaps: {changes: 100, within: 1m}", "changes is 100 within 1m, which is more than one a second"),
        ("[]", "the rules must be a mapping, not a list"),
        ("{", "not valid YAML"),
        ("flaps: 3", "flaps must be a mapping"),
    ],
)
def test_rules_that_contradict_themselves_are_refused(text: str, says: str) -> None:
    with pytest.raises(Mistakes, match=says):
        check(text, "t")


@given(st.binary(max_size=200))
def test_any_bytes_are_rules_or_refused(value: bytes) -> None:
    with contextlib.suppress(Mistakes):
        decode(value)


# --- sizes


def test_a_million_devices_fit_and_more_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices_module, "MAX_DEVICES", 1_000)
    watch = Watch(default())
    numbers = watch.devices.numbers(pa.array([f"d-{n}" for n in range(1_200)]), np.zeros(1_200, np.int64))
    assert (numbers >= 0).sum() == watch.devices.size == 1_000 and watch.devices.untracked == 200
    t = Timeline()
    assert len(t.says(*(f"d-{n}" for n in range(1_200)))) == 1_000
    assert t.state.sizes()["untracked"] == 200
    assert t.says("d-1100") == [] and t.happens("d-1100", "connected") == []
    monkeypatch.undo()
    assert devices_module.MAX_DEVICES == 1_000_000


def test_a_device_costs_what_the_readme_says() -> None:
    devices = Devices(1 << 17)
    assert devices.nbytes / (1 << 17) == 213
    t = Timeline()
    t.says(*(f"device-{n:06}" for n in range(5_000)))
    assert len(stored(t.state)) / 5_000 < 85 + 16 + 2


def test_numbers_of_removed_devices_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices_module, "_COMPACT_FROM", 10)
    t = Timeline()
    for turn in range(40):
        names = [f"d-{turn}-{n}" for n in range(20)]
        t.says("stays", *names)
        t.says(f"child-{turn}", publisher="g")
        numbers = t.state.watch.devices.numbers(pa.array(names), np.full(20, -1))
        t.state.watch.devices.forget(numbers)
        t.at(t.second + 1)
    devices = t.state.watch.devices
    assert devices.watched == 1 + 40 + 1 and devices.size <= 2 * devices.watched + 10
    owner = devices.columns.publisher[devices.known("child-7")]
    assert devices.table.name(int(owner)) == "g" and devices.columns.told[devices.known("stays")] == Is.ONLINE


def test_ids_that_no_device_can_have_are_not_watched() -> None:
    t = Timeline()
    assert t.record(row("UPPER"), row(""), row("a/b", publisher="g")) == [("g", "online", "telemetry")]
    assert t.state.sizes()["devices"] == 1


def test_the_largest_record_fits_into_its_topic() -> None:
    t = Timeline()
    names = [f"{n:05}{'x' * 59}" for n in range(20_000)]
    rows = [row(name, publisher="g" * 64) for name in names]
    (output,) = t.state.apply(data(1, rows))
    assert len(output.value) < 16 << 20
    assert NOW_MS
