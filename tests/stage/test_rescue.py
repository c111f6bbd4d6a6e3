"""Bad rows of a record cost themselves and nothing else: the search for them, and the states of all stages."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import FatalError
from runtime.stage.bisect import bisect
from runtime.stage.contract import Divisible, Frozen, Output, Record, Stage, State
from runtime.stage.readings import TakesReadings
from runtime.stage.rescue import copied, is_divisible, replayed, rescue
from schemas import readings
from schemas.errors import ContractError
from schemas.topics import READINGS
from schemas.vocabulary import Kind
from streams.aggregate.core.stage import AggregateStage
from streams.anomaly.core.stage import AnomalyStage
from streams.presence.core.stage import PresenceStage
from tests.aggregate.support import Scenario as AggregateScenario
from tests.anomaly.scenario import Scenario as AnomalyScenario
from tests.presence.scenario import Scenario as PresenceScenario
from tests.stage.toy import Toy
from tests.support.states import as_bytes, stored

# --- the search


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_every_row_is_taken_in_order_but_those_that_raise(case: tuple[int, set[int]]) -> None:
    rows, bad = case
    attempts = 0

    def attempt(first: int, end: int) -> list[int]:
        nonlocal attempts
        attempts += 1
        if bad & set(range(first, end)):
            raise ValueError
        return list(range(first, end))

    def refuse(row: int, error: Exception) -> list[int]:
        assert isinstance(error, ValueError)
        return [~row]

    found = [row for part in bisect(0, rows, attempt, refuse) for row in part]
    assert found == [~row if row in bad else row for row in range(rows)]
    assert attempts <= 1 + 2 * len(bad) * math.ceil(math.log2(rows) if rows > 1 else 1)


@pytest.mark.parametrize("error", [MemoryError, FatalError])
def test_lack_of_memory_and_what_is_raised_on_purpose_are_no_rows_fault(error: type[Exception]) -> None:
    def attempt(first: int, end: int) -> None:
        raise error

    with pytest.raises(error):
        list(bisect(0, 8, attempt, lambda row, error: None))


# --- the toy


def toy(poison: str) -> Toy:
    return Toy({"TOY_NAME": "toy", "TOY_POISON": poison})


def words(offset: int, *found: str) -> Record:
    return Record(0, offset, 0, offset, Kind.DATA, {"kind": b"data"}, orjson.dumps(found))


def test_the_rows_at_fault_are_left_out_and_the_state_is_as_if_they_had_not_come() -> None:
    stage, plain = toy("bad"), toy("")
    before, expected = stage.create(0), plain.create(0)
    for state in (before, expected):
        state.apply(words(0, "a", "b"))
    found = rescue(stage, copied(before.freeze()), words(1, "a", "bad", "c", "bad", "a"))
    assert found.refused == 2
    assert found.outputs == expected.apply(words(1, "a", "c", "a"))
    assert stored(found.state) == stored(expected)


def test_rows_that_fail_only_together_cost_the_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = toy("")
    whole = type(stage.create(0))._count

    def count(self: Any, found: list[str]) -> dict[str, int]:
        if {"oil", "water"} <= {*self.counts, *found}:
            raise RuntimeError("they do not mix")
        return whole(self, found)

    monkeypatch.setattr(type(stage.create(0)), "_count", count)
    found = rescue(stage, copied(stage.create(0).freeze()), words(0, "oil", "a", "water", "b"))
    assert (found.refused, orjson.loads(found.outputs[0].value)) == (1, {"oil": 1, "a": 1, "b": 1})


def test_every_row_failing_of_many_devices_is_a_bug_of_the_stage_and_of_few_is_not() -> None:
    stage = toy("*")
    before = copied(stage.create(0).freeze())
    with pytest.raises(FatalError, match="toy raises for every row: RuntimeError"):
        rescue(stage, before, words(0, *"abcdefghijklmnop"))
    assert rescue(stage, before, words(0, *"aaaaaaaaaabbbbbbbbbbcccccc")).refused == 26


def test_what_was_rescued_once_is_rescued_the_same_way_when_it_is_applied_again() -> None:
    stage, plain = toy("bad"), toy("").create(0)
    records = [words(0, "a", "bad"), words(1, "b"), words(2, "bad"), words(3, "bad", "a")]
    for record, kept in zip(records, (["a"], ["b"], [], ["a"]), strict=True):
        plain.apply(words(record.offset, *kept))
    found = replayed(stage, stage.create(0), records)
    assert as_bytes(found) == stored(plain)


def test_only_data_and_errors_that_nobody_raised_on_purpose_are_looked_into() -> None:
    stage, record = toy(""), words(0, "a")
    assert is_divisible(stage, record, KeyError("a"))
    for error in (MemoryError(), ContractError("newer"), FatalError("on purpose")):
        assert not is_divisible(stage, record, error)
    assert not is_divisible(stage, Record(0, 0, 0, 0, Kind.TICK, {}, b""), KeyError("a"))


# --- the stages


@dataclass
class Fussy:
    """A state that raises once it has taken rows of one of these devices: when all of it has changed."""

    inner: State
    disliked: set[str]

    def apply(self, record: Record) -> Sequence[Output]:
        outputs = self.inner.apply(record)
        if record.kind is Kind.DATA:
            devices = set(readings.read(record.headers, record.value).column("device").to_pylist())
            if devices & self.disliked:
                raise RuntimeError("disliked")
        return outputs

    def freeze(self) -> Frozen:
        return self.inner.freeze()

    def sizes(self) -> Any:
        return self.inner.sizes()


@dataclass
class FussyStage(TakesReadings):
    stage: Stage
    disliked: set[str] = field(default_factory=set)
    name: str = "fussy"
    logic_version: int = 0
    reads: tuple[int, ...] = ()
    source: str = READINGS
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.logic_version = self.stage.logic_version

    def create(self, partition: int) -> Fussy:
        return Fussy(self.stage.create(partition), self.disliked)

    def restore(self, partition: int, stored: Frozen, version: int) -> Fussy:
        return Fussy(self.stage.restore(partition, stored, version), self.disliked)


def _aggregate(seed: int) -> Callable[[], Record]:
    return AggregateScenario(seed).record


def _anomaly(seed: int) -> Callable[[], Record]:
    return AnomalyScenario(seed).record


def _presence(seed: int) -> Callable[[], Record]:
    scenario = PresenceScenario(seed)
    return lambda: scenario.record()[0]


@pytest.mark.parametrize(
    ("core", "scenario"),
    [(AggregateStage(), _aggregate), (AnomalyStage(), _anomaly), (PresenceStage(), _presence)],
    ids=["aggregate", "anomaly", "presence"],
)
@pytest.mark.parametrize("seed", range(2))
def test_a_stage_loses_the_rows_at_fault_and_no_others(
    core: Stage, scenario: Callable[[int], Callable[[], Record]], seed: int
) -> None:
    stage, next_record = FussyStage(core), scenario(seed)
    assert isinstance(stage, Divisible)
    state: State = stage.create(0)
    rescued = 0
    for _ in range(60):
        record = next_record()
        before = copied(state.freeze())
        devices = stage.owners(record) if record.kind is Kind.DATA else []
        stage.disliked.clear()
        if len(set(devices)) > 1:
            stage.disliked.add(devices[len(devices) // 2])
        try:
            state.apply(record)
        except RuntimeError:
            state = rescue(stage, before, record).state
            kept = [device not in stage.disliked for device in devices]
            rescued += 1
            stage.disliked.clear()
            expected = stage.restore(0, copied(before), core.logic_version)
            expected.apply(stage.only(record, _flags(kept)))
            assert stored(state) == stored(expected)
    assert rescued > 5


def test_readings_left_out_are_counted_as_refused() -> None:
    stage, next_record = FussyStage(AggregateStage()), _aggregate(1)
    record = next(r for r in iter(next_record, None) if r.kind is Kind.DATA and len(set(stage.owners(r))) > 1)
    devices = stage.owners(record)
    stage.disliked.add(devices[0])
    found = rescue(stage, copied(stage.create(0).freeze()), record)
    accepted = readings.read(record.headers, record.value).column("verdict").to_numpy() == 0
    gone = _flags([device == devices[0] for device in devices])
    assert isinstance(found.state, Fussy)
    inner: Any = found.state.inner
    assert inner.seen.refused["fault"] == (accepted & gone).sum()
    assert found.refused == gone.sum()


def _flags(kept: list[bool]) -> Any:
    return np.array(kept, np.bool_)
