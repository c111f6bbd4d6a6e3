"""Series are numbered as a plain dictionary would, row after row, however the rows are cut and coded."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.columns.series import DEVICE_FULL, NONE, PARTITION_FULL, SeriesTable

Row = tuple[str, str | None, str | None]

devices = st.sampled_from(["a", "b", "sensor-1", "sensor-12", "x" * 64])
names = st.sampled_from(["climate", "motor", "a", "", "täglich", "a\0b", "k" * 200])
rows = st.lists(st.tuples(devices, names, names), max_size=40)


def batch(found: list[Row], word_order: Callable[[list[str]], list[str]] = sorted) -> pa.RecordBatch:
    """Rows as a batch of telemetry.readings has them. Dictionaries hold a word that no row uses, too."""
    columns = {}
    for place, name in enumerate(("device", "channel", "metric")):
        values = [row[place] for row in found]
        words = word_order([*{v for v in values if v is not None}, "unused"])
        code = {word: n for n, word in enumerate(words)}
        codes = pa.array([None if v is None else code[v] for v in values], pa.int32())
        columns[name] = pa.DictionaryArray.from_arrays(codes, pa.array(words, pa.string()))
    return pa.RecordBatch.from_pydict(columns)


class Plain:
    """What the table must do, a row at a time."""

    def __init__(self, per_device: int, per_partition: int) -> None:
        self.numbers: dict[Row, int] = {}
        self.per_device, self.per_partition = per_device, per_partition

    def number(self, row: Row) -> int | str:
        if row not in self.numbers:
            if len(self.numbers) >= self.per_partition:
                return PARTITION_FULL
            if sum(row[0] == known[0] for known in self.numbers) >= self.per_device:
                return DEVICE_FULL
            self.numbers[row] = len(self.numbers)
        return self.numbers[row]


@settings(max_examples=300)
@given(st.lists(rows, max_size=6), st.randoms(use_true_random=False), st.integers(1, 6), st.integers(1, 20))
def test_numbers_are_those_of_a_plain_dictionary(batches: list[list[Row]], random, per_device, per_partition) -> None:  # type: ignore[no-untyped-def]
    table, plain = SeriesTable(per_device=per_device, per_partition=per_partition), Plain(per_device, per_partition)
    for found in batches:
        expected = [plain.number(row) for row in found]
        got = table.number(batch(found, lambda words: random.sample(words, len(words))))
        assert got.series.tolist() == [NONE if isinstance(n, str) else n for n in expected]
        assert got.refused == Counter(n for n in expected if isinstance(n, str))
    assert [table.name(n) for n in range(table.size)] == list(plain.numbers)
    assert {table.devices.name(n) for n in range(table.devices.size)} == {row[0] for row in plain.numbers}


@given(rows, st.integers(0, 40), st.integers(1, 4))
def test_batch_cuts_change_nothing(found: list[Row], cut: int, per_device: int) -> None:
    whole, pieces = SeriesTable(per_device=per_device), SeriesTable(per_device=per_device)
    one = whole.number(batch(found)).series.tolist()
    other = [n for part in (found[:cut], found[cut:]) for n in pieces.number(batch(part, list)).series.tolist()]
    assert one == other
    assert stored(whole) == stored(pieces)


def stored(table: SeriesTable) -> dict[str, object]:
    return {name: array.tolist() for name, array in table.freeze().items()}


@given(rows, rows)
def test_a_restored_table_goes_on_as_the_one_that_was_frozen(before: list[Row], after: list[Row]) -> None:
    table, again = SeriesTable(per_device=3), SeriesTable(per_device=3)
    table.number(batch(before))
    again.restore({name: array.copy() for name, array in table.freeze().items()})
    assert stored(again) == stored(table)
    one, other = table.number(batch(after)), again.number(batch(after))
    assert one.series.tolist() == other.series.tolist() and one.refused == other.refused
    assert stored(again) == stored(table)


@given(rows, rows)
def test_what_was_frozen_stays_as_it_was_and_only_grows_at_its_end(before: list[Row], after: list[Row]) -> None:
    table = SeriesTable()
    table.number(batch(before))
    frozen = table.freeze()
    copies = {name: array.copy() for name, array in frozen.items()}
    table.number(batch(after))
    for name, array in table.freeze().items():
        assert (frozen[name] == copies[name]).all()
        assert (array[: len(copies[name])] == copies[name]).all()


def test_only_the_rows_asked_for_are_numbered_and_a_slice_has_its_own() -> None:
    table = SeriesTable()
    found = batch([("a", "c", "m"), ("b", None, "event/offline"), ("b", "c", "m"), ("a", "c", "n")])
    assert table.number(found, np.array([0, 2])).series.tolist() == [0, 1]
    assert table.number(found.slice(2)).series.tolist() == [1, 2]
    assert [table.name(n) for n in range(table.size)] == [("a", "c", "m"), ("b", "c", "m"), ("a", "c", "n")]
    assert len(table.channels) == 1


def test_a_null_name_is_the_empty_one() -> None:
    table = SeriesTable()
    assert table.number(batch([("a", None, "m"), ("a", "", "m"), ("a", "c", None)])).series.tolist() == [0, 0, 1]


def test_a_word_that_stands_twice_in_a_dictionary_is_one_name() -> None:
    codes = pa.array([0, 1, 1, 0], pa.int32())
    twice = pa.DictionaryArray.from_arrays(codes, pa.array(["a", "a"]))
    table = SeriesTable(per_device=1)
    found = pa.RecordBatch.from_pydict({"device": twice, "channel": twice, "metric": twice})
    assert table.number(found).series.tolist() == [0, 0, 0, 0]
    assert table.devices.size == 1


def test_columns_name_the_series() -> None:
    table = SeriesTable()
    found: list[Row] = [("sensor-1", "c", "m"), ("b", "c", "täglich"), ("sensor-1", "d", "m")]
    table.number(batch(found))
    asked = [2, 1, 2, 0]
    columns = [column.to_pylist() for column in table.columns(np.array(asked))]
    assert list(zip(*columns, strict=True)) == [found[n] for n in asked]
    assert [c.to_pylist() for c in table.columns(np.zeros(0, np.int64))] == [[], [], []]


def test_a_hundred_thousand_metrics_of_one_device_leave_no_trace_beyond_its_bound() -> None:
    table = SeriesTable()
    refused: Counter[str] = Counter()
    for start in range(0, 100_000, 5_000):
        refused += table.number(batch([("a", "c", f"m{n}") for n in range(start, start + 5_000)], list)).refused
    assert refused == {DEVICE_FULL: 99_000}
    assert (table.size, len(table.metrics)) == (1_000, 1_000)
    assert table.number(batch([("b", "c", "m5"), ("a", "c", "m999"), ("a", "c", "m1000")])).series.tolist() == [
        1_000,
        999,
        NONE,
    ]


def test_a_quarter_of_a_million_series_are_found_again() -> None:
    table = SeriesTable(per_partition=250_000)
    ids = [f"sensor-{n}" for n in range(125_000)]
    column = pa.array([i for i in ids for _ in range(2)]).dictionary_encode()
    channel = pa.array(["climate"] * 250_000).dictionary_encode()
    metric = pa.array(["temperature", "humidity"] * 125_000).dictionary_encode()
    found = pa.RecordBatch.from_pydict({"device": column, "channel": channel, "metric": metric})
    for _ in range(2):
        assert (table.number(found).series == range(250_000)).all()
    assert table.number(batch([("late", "climate", "temperature")])).refused == {PARTITION_FULL: 1}
    assert table.nbytes < 250_000 * 250


def test_more_series_than_keys_have_bits_for_are_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="at most 1048576 series"):
        SeriesTable(per_partition=2_000_000)
