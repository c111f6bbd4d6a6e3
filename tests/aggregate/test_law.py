"""Whatever comes in whatever cut: partials of a window add up to what its readings are, nothing lost, nothing twice."""

import hashlib
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.columns.pack import pack, unpack
from runtime.stage.contract import Frozen, Record
from schemas.vocabulary import Kind
from streams.aggregate.core import rows, sketches, windows
from streams.aggregate.core import state as state_module
from streams.aggregate.core.stage import AggregateStage
from streams.aggregate.core.state import State
from tests.aggregate.oracle import by_window, is_folded, merged, same, truth
from tests.aggregate.support import Row, Scenario, counts_of, data, ended, fresh, rows_of, tick

few = settings(max_examples=int(os.environ.get("EXAMPLES", "12")))
"""Each example is a stream of dozens of records."""


@pytest.fixture(autouse=True, scope="module", params=["as shipped", "tidying all the time", "a little at a time"])
def thrift(request: pytest.FixtureRequest) -> Iterator[str]:
    """The laws hold whether what was closed lies about for long or is cleared away at once, and when there is room for
    next to nothing."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "as shipped":
            patch.setattr(sketches, "_LEAST_LOG", 3)
            patch.setattr(windows, "_LEAST_CLOSED", 1)
            patch.setattr(rows, "_MOST_ROWS", 12)
        if request.param == "a little at a time":
            patch.setattr(state_module, "MOST_CLOSED", 3)
            patch.setattr(state_module, "MOST_OPEN", 15)
        yield request.param


@few
@given(st.integers(0, 1 << 32))
def test_partials_add_up_to_the_readings(seed: int) -> None:
    scenario, state = Scenario(seed, wild=False), fresh()
    written = [row for _ in range(40) for row in rows_of(state.apply(scenario.record()))]
    written += ended(state, 1_000, scenario.time_ms + 2 * 86_400_000)
    same(by_window(written), truth(scenario.rows))


@few
@given(st.integers(0, 1 << 32))
def test_the_account_of_each_record_adds_up(seed: int) -> None:
    """readings = folded + texts + refused, open = before + folded - emitted, emitted = the counts of the rows."""
    scenario, state = Scenario(seed), fresh()
    before = folded = emitted = 0
    for _ in range(60):
        record = scenario.record()
        outputs = state.apply(record)
        assert len(outputs) <= 1
        assert outputs or record.kind is not Kind.TICK
        if outputs:
            counts = counts_of(outputs)
            found = rows_of(outputs)
            assert counts["readings"] == counts["folded"] + counts["texts"] + counts["refused"]
            assert counts["open"] == before + counts["folded"] - counts["emitted"]
            assert counts["emitted"] == sum(row["count"] for row in found if row["scope"] == "device")
            assert counts["rows"] == len(found)
            before, folded, emitted = counts["open"], folded + counts["folded"], emitted + counts["emitted"]
    counts = counts_of(state.apply(tick(999, scenario.time_ms)))
    folded, emitted = folded + counts["folded"], emitted + counts["emitted"]
    assert folded == sum(map(is_folded, scenario.rows)) == emitted + counts["open"]


@few
@given(st.integers(0, 1 << 32))
def test_groups_add_up_to_the_devices_that_have_the_label(seed: int) -> None:
    """For each record: count, extremes and sketch of a group are those of its devices' rows beside it."""
    scenario, state = Scenario(seed), fresh()
    for _ in range(60):
        found = rows_of(state.apply(scenario.record()))
        wanted = state.settings.value.groups
        for scope in wanted:
            expected: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
            for row in found:
                label = label_of(state, row["device"], scope) if row["scope"] == "device" else None
                if label is not None:
                    key = (label, row["channel"], row["metric"], row["window_start"], row["window_ms"], row["part"])
                    expected[key].append(row)
            got = {
                (row["device"], row["channel"], row["metric"], row["window_start"], row["window_ms"], row["part"]): row
                for row in found
                if row["scope"] == scope
            }
            assert len(got) == sum(row["scope"] == scope for row in found), "one row a group and part"
            same({key: merged([row]) for key, row in got.items()}, {key: merged(e) for key, e in expected.items()})  # type: ignore[misc]
        assert {row["scope"] for row in found} <= {"device", *wanted}


def label_of(state: State, device: str, label: str) -> str | None:
    code = int(state.registry.values(label)[state.series.devices.find_one(device)])
    return None if code < 0 else state.registry.word(label, code)


@few
@given(st.integers(0, 1 << 32), st.integers(1, 10))
def test_batch_cuts_change_no_bit(thrift: str, seed: int, cut: int) -> None:
    """Not even of sums: readings are added one after the other."""
    scenario, whole, pieces = Scenario(seed, wild=False), fresh(), fresh()
    one, other = [], []
    for _ in range(30):
        record = scenario.record()
        one += rows_of(whole.apply(record))
        batch = scenario.rows[len(scenario.rows) - rows_in(record) :] if record.kind is Kind.DATA else []
        cuts = [data(0, batch[at : at + cut]) for at in range(0, len(batch), cut)]
        for piece in cuts if record.kind is Kind.DATA else [record]:
            other += rows_of(pieces.apply(piece))
    after_ms = scenario.time_ms + 2 * 86_400_000
    one, other = one + ended(whole, 1_000, after_ms), other + ended(pieces, 1_000, after_ms)
    if thrift == "a little at a time":  # what is closed when is then a matter of records
        same(by_window(one), by_window(other))
    else:
        assert of_devices(one) == of_devices(other)


def of_devices(found: list[Row]) -> list[Row]:
    return [row for row in found if row["scope"] == "device"]


def rows_in(record: Record) -> int:
    from schemas import readings

    return len(readings.read(record.headers, record.value))


def packed(state: State) -> bytes:
    frozen = state.freeze()
    return pack(frozen.meta, frozen.arrays)


def plain(outputs: Any) -> list[tuple[str, bytes, list[tuple[str, bytes]]]]:
    return [(o.topic, o.value, list(o.headers)) for o in outputs]


@few
@given(st.integers(0, 1 << 32))
def test_a_restore_after_each_record_changes_no_byte(seed: int) -> None:
    scenario, stage = Scenario(seed), AggregateStage()
    state, again = stage.create(0), stage.create(0)
    for _ in range(40):
        record = scenario.record()
        expected = state.apply(record)
        assert plain(again.apply(record)) == plain(expected)
        blob = packed(again)
        assert blob == packed(state)
        again = stage.restore(0, Frozen(*unpack(blob)), stage.logic_version)


def fingerprint(seed: int) -> str:
    """Of all outputs and snapshots of a stream."""
    scenario, state, digest = Scenario(seed), fresh(), hashlib.sha256()
    for _ in range(120):
        digest.update(repr(plain(state.apply(scenario.record()))).encode())
        digest.update(packed(state))
    return digest.hexdigest()


def test_the_same_records_give_the_same_bytes_in_every_process() -> None:
    code = "from tests.aggregate.test_law import fingerprint; print(fingerprint(77))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(found) == 1
