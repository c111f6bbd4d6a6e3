"""The stage is a pure function of its partition: whatever comes, restored after each record, under any hash seed."""

import hashlib
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.stage.contract import Record
from schemas.topics import ANOMALIES, INCIDENTS
from schemas.vocabulary import Kind
from streams.anomaly.core.stage import AnomalyStage
from tests.anomaly.scenario import Scenario
from tests.anomaly.support import rows_of, same
from tests.support.states import restored, stored


@settings(max_examples=12)
@given(st.integers(0, 2**32))
def test_restored_after_each_record_it_tells_the_same_bytes(seed: int) -> None:
    stage, scenario = AnomalyStage(), Scenario(seed)
    one, other = stage.create(0), stage.create(0)
    for record in scenario.records(120):
        outputs = one.apply(record)
        assert same(outputs, other.apply(record)), record
        _as_promised(record, outputs)
        scenario.incidents += rows_of(outputs, INCIDENTS)
        other = restored(stage, stored(other))
        assert stored(one) == stored(other)


def _as_promised(record: Record, outputs: object) -> None:
    topics = [output.topic for output in outputs]  # type: ignore[attr-defined]
    assert len(topics) == len(set(topics)), "at most one record a topic"
    if record.kind is Kind.TICK:
        assert topics == [ANOMALIES, INCIDENTS], "exactly one of each for a tick"
    for output in outputs:  # type: ignore[attr-defined]
        assert output.value or record.kind is Kind.TICK, "others only where there are rows"


def fingerprint(seed: int, records: int) -> str:
    """Of all that is written and stored."""
    stage, scenario, found = AnomalyStage(), Scenario(seed), hashlib.sha256()
    state = stage.create(0)
    for record in scenario.records(records):
        outputs = state.apply(record)
        scenario.incidents += rows_of(outputs, INCIDENTS)
        for output in outputs:
            found.update(repr((output.topic, output.value, output.headers)).encode())
    found.update(stored(state))
    return found.hexdigest()


@pytest.mark.parametrize("seed", [3])
def test_hash_seeds_change_nothing(seed: int) -> None:
    code = f"from tests.anomaly.test_state import fingerprint; print(fingerprint({seed}, 300))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
            timeout=120,
        ).stdout
        for hash_seed in ("0", "1", "77")
    }
    assert found == {fingerprint(seed, 300) + "\n"}
