"""Whatever comes in whatever cut: partials of a window add up to what its readings are, nothing lost, nothing twice."""

import hashlib
import math
import os
import subprocess
import sys
from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.stage.contract import Record
from schemas import sketch
from schemas.vocabulary import Kind, Verdict
from streams.aggregate.core.stage import AggregateStage
from streams.aggregate.core.state import State
from tests.aggregate.support import MINUTE_MS, Row, World, counts_of, data, fresh, rows_of, tick

few = settings(max_examples=int(os.environ.get("EXAMPLES", "25")))
"""Each example is a stream of dozens of records."""
Series = tuple[str, str, str, int]
"""Device, channel, metric, begin of the window."""


def is_folded(row: Row) -> bool:
    return row["verdict"] == Verdict.ACCEPTED and row["value"] is not None and not math.isnan(row["value"])


def truth(rows: list[Row], window_ms: int = MINUTE_MS) -> dict[Series, dict[str, Any]]:
    """What the windows hold, computed a reading at a time."""
    windows: dict[Series, list[Row]] = defaultdict(list)
    for row in filter(is_folded, rows):
        windows[row["device"], row["channel"], row["metric"], row["time"] // window_ms * window_ms].append(row)
    return {series: _window(found) for series, found in windows.items()}


def _window(found: list[Row]) -> dict[str, Any]:
    values = [row["value"] for row in found]
    first = min(range(len(found)), key=lambda n: (found[n]["time"], n))
    last = max(range(len(found)), key=lambda n: (found[n]["time"], n))
    total = squares = 0.0
    for value in values:
        total, squares = total + value, squares + value * value
    return {
        "count": len(values),
        "sum": total,
        "sum_squares": squares,
        "min": min(values),
        "max": max(values),
        "first": values[first],
        "last": values[last],
        "first_time": found[first]["time"],
        "last_time": found[last]["time"],
        "sketch": dict(sketch.merge([[(sketch.bucket_of(value), 1)] for value in values])),
    }


def merged(partials: list[Row]) -> dict[str, Any]:
    """Partials of one window added up as the contract says."""
    first = min(partials, key=lambda row: row["first_time"])
    last = max(enumerate(partials), key=lambda item: (item[1]["last_time"], item[0]))[1]
    return {
        "count": sum(row["count"] for row in partials),
        "sum": sum(row["sum"] for row in partials),
        "sum_squares": sum(row["sum_squares"] for row in partials),
        "min": min(row["min"] for row in partials),
        "max": max(row["max"] for row in partials),
        "first": first["first"],
        "last": last["last"],
        "first_time": first["first_time"],
        "last_time": last["last_time"],
        "sketch": dict(sketch.merge(zip(row["sketch_buckets"], row["sketch_counts"], strict=True) for row in partials)),
    }


def by_window(rows: list[Row], scope: str = "device") -> dict[Series, dict[str, Any]]:
    windows: dict[Series, list[Row]] = defaultdict(list)
    for row in rows:
        if row["scope"] == scope:
            windows[row["device"], row["channel"], row["metric"], row["window_start"]].append(row)
    return {series: merged(found) for series, found in windows.items()}


def same(one: dict[Series, dict[str, Any]], other: dict[Series, dict[str, Any]]) -> None:
    """Everything exactly, sums to rounding."""
    assert one.keys() == other.keys()
    for series, found in one.items():
        for name, value in found.items():
            expected = other[series][name]
            close = name.startswith("sum") and math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-9)
            assert close or value == expected or (math.isnan(value) and math.isnan(expected)), (series, name)


def ended(state: State, offset: int, last_ms: int) -> list[Row]:
    """Ticks until everything is written."""
    found: list[Row] = []
    for step in range(60):
        found += rows_of(state.apply(tick(offset + step, last_ms + step * 20_000)))
        if not state.open:
            return found
    raise AssertionError("windows stay open")


@few
@given(st.integers(0, 1 << 32))
def test_partials_add_up_to_the_readings(seed: int) -> None:
    world, state = World(seed, wild=False), fresh()
    written = [row for _ in range(40) for row in rows_of(state.apply(world.record()))]
    written += ended(state, 1_000, world.time_ms + 2 * 86_400_000)
    same(by_window(written), truth(world.rows))


@few
@given(st.integers(0, 1 << 32))
def test_the_account_of_each_record_adds_up(seed: int) -> None:
    """readings = folded + texts + refused, open = before + folded - emitted, emitted = the counts of the rows."""
    world, state = World(seed), fresh()
    before = folded = emitted = 0
    for _ in range(60):
        record = world.record()
        outputs = state.apply(record)
        assert len(outputs) <= 1
        assert outputs or record.kind is not Kind.TICK
        if outputs:
            counts = counts_of(outputs)
            rows = rows_of(outputs)
            assert counts["readings"] == counts["folded"] + counts["texts"] + counts["refused"]
            assert counts["open"] == before + counts["folded"] - counts["emitted"]
            assert counts["emitted"] == sum(row["count"] for row in rows if row["scope"] == "device")
            assert counts["rows"] == len(rows)
            before, folded, emitted = counts["open"], folded + counts["folded"], emitted + counts["emitted"]
    counts = counts_of(state.apply(tick(999, world.time_ms)))
    folded, emitted = folded + counts["folded"], emitted + counts["emitted"]
    assert folded == sum(map(is_folded, world.rows)) == emitted + counts["open"]


@few
@given(st.integers(0, 1 << 32))
def test_groups_add_up_to_the_devices_that_have_the_label(seed: int) -> None:
    """For each record: count, extremes and sketch of a group are those of its devices' rows beside it."""
    world, state = World(seed), fresh()
    for _ in range(60):
        rows = rows_of(state.apply(world.record()))
        wanted = state.settings.value.groups
        for scope in wanted:
            expected: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
            for row in rows:
                label = label_of(state, row["device"], scope) if row["scope"] == "device" else None
                if label is not None:
                    key = (label, row["channel"], row["metric"], row["window_start"], row["window_ms"], row["part"])
                    expected[key].append(row)
            got = {
                (row["device"], row["channel"], row["metric"], row["window_start"], row["window_ms"], row["part"]): row
                for row in rows
                if row["scope"] == scope
            }
            assert len(got) == sum(row["scope"] == scope for row in rows), "one row a group and part"
            same({key: merged([row]) for key, row in got.items()}, {key: merged(e) for key, e in expected.items()})  # type: ignore[misc]
        assert {row["scope"] for row in rows} <= {"device", *wanted}


def label_of(state: State, device: str, label: str) -> str | None:
    import numpy as np

    number = state.series.devices.find_one(device)
    places, words = state.labels.values(label, np.array([number]))
    return None if places[0] < 0 else words[places[0]]


@few
@given(st.integers(0, 1 << 32), st.integers(1, 10))
def test_batch_cuts_change_no_bit(seed: int, cut: int) -> None:
    """Even sums: readings are added one after the other. (Rows of one record may be in another order.)"""
    world, whole, pieces = World(seed, wild=False), fresh(), fresh()
    for _ in range(30):
        record = world.record()
        one, other = [*whole.apply(record)], []
        if record.kind is Kind.DATA:
            batch = world.rows[len(world.rows) - rows_in(record) :]
            other = [o for at in range(0, len(batch), cut) for o in pieces.apply(data(0, batch[at : at + cut]))]
        else:
            other = [*pieces.apply(record)]
        assert [o.value for o in one] == [o.value for o in other]
    assert AggregateStage().encode(whole.freeze()) == AggregateStage().encode(pieces.freeze())


def rows_in(record: Record) -> int:
    from schemas import readings

    return len(readings.read(record.headers, record.value))


def plain(outputs: Any) -> list[tuple[str, bytes, list[tuple[str, bytes]]]]:
    return [(o.topic, o.value, list(o.headers)) for o in outputs]


@few
@given(st.integers(0, 1 << 32))
def test_a_restore_after_each_record_changes_no_byte(seed: int) -> None:
    world, stage = World(seed), AggregateStage()
    state, again = stage.create(0), stage.create(0)
    for _ in range(40):
        record = world.record()
        expected = state.apply(record)
        assert plain(again.apply(record)) == plain(expected)
        blob = stage.encode(again.freeze())
        assert blob == stage.encode(state.freeze())
        again = stage.restore(0, blob)


def test_what_was_frozen_stays_as_it_was() -> None:
    world, stage = World(7), AggregateStage()
    state = stage.create(0)
    for _ in range(50):
        state.apply(world.record())
    frozen = state.freeze()
    blob = stage.encode(frozen)
    for _ in range(50):
        state.apply(world.record())
    assert stage.encode(frozen) == blob


def fingerprint(seed: int) -> str:
    """Of all outputs and snapshots of a stream."""
    world, stage = World(seed), AggregateStage()
    state, digest = stage.create(0), hashlib.sha256()
    for _ in range(120):
        digest.update(repr(plain(state.apply(world.record()))).encode())
        digest.update(stage.encode(state.freeze()))
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
    assert found == {fingerprint(77) + "\n"}
