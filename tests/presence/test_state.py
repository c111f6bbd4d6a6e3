"""Whole records through the state, against the oracle; and that a restart anywhere changes no byte."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from runtime.stage.contract import Output
from schemas import headers
from streams.presence.core import devices as devices_module
from streams.presence.core.stage import PresenceStage
from tests.presence.oracle import Row
from tests.presence.scenario import Scenario
from tests.presence.support import rows_of
from tests.support.states import restored, stored


def as_row(row: dict[str, Any]) -> Row:
    at = [row[name] if row[name] is None else ms(row[name]) for name in ("since", "last_seen")]
    return (row["device"], row["publisher"], row["state"], row["reason"], *at, row["expected_s"], row["flaps"])


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


@pytest.mark.parametrize("seed", range(12))
def test_records_change_what_the_oracle_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices_module, "_COMPACT_FROM", 2)
    scenario, state = Scenario(seed), PresenceStage().create(0)
    for _ in range(400):
        record, expected = scenario.record()
        outputs = state.apply(record)
        rows = rows_of(outputs)
        assert sorted(map(as_row, rows), key=str) == sorted(expected, key=str), record.offset
        assert {ms(row["time"]) for row in rows} <= {scenario.oracle.time}
        assert len({row["device"] for row in rows}) == len(rows), "a record changes a device at most once"
        assert state.watch.devices.watched == len(scenario.oracle.devices)


def test_the_schedules_meet_every_reason_and_hold_and_keep_back() -> None:
    met: Counter[str] = Counter()
    kept = held = 0
    for seed in range(6):
        scenario = Scenario(seed)
        for _ in range(300):
            for row in scenario.record()[1]:
                met[row[3]] += 1
                kept += row[-1]
            held += sum(entry.held for entry in scenario.oracle.devices.values())
    assert set(met) == {"telemetry", "connected", "disconnected", "will", "silence", "removed"}
    assert kept and held


@pytest.mark.parametrize("seed", [50, 51])
def test_a_snapshot_and_a_restart_after_each_record_change_no_byte(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices_module, "_COMPACT_FROM", 2)
    scenario, stage = Scenario(seed), PresenceStage()
    straight, broken = stage.create(0), stage.create(0)
    for _ in range(250):
        record, _ = scenario.record()
        assert as_bytes(straight.apply(record)) == as_bytes(broken.apply(record))
        blob = stored(broken)
        assert blob == stored(straight)
        broken = restored(stage, blob)  # type: ignore[assignment]


def as_bytes(outputs: Sequence[Output]) -> list[tuple[Any, ...]]:
    return [(output.topic, output.value, list(output.headers)) for output in outputs]


def fingerprint(seed: int) -> str:
    """Of all that comes of a schedule, and of the state in the end."""
    scenario, state = Scenario(seed), PresenceStage().create(0)
    found = hashlib.sha256()
    for _ in range(200):
        for output in state.apply(scenario.record()[0]):
            found.update(output.value + repr(headers.table(output.headers)).encode())
    return found.hexdigest() + hashlib.sha256(stored(state)).hexdigest()


def test_the_same_records_give_the_same_bytes_in_every_process() -> None:
    code = "from tests.presence.test_state import fingerprint; print(fingerprint(77))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "12345")
    }
    assert found == {fingerprint(77) + "\n"}
