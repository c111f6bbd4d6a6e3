"""Rows that wait leave in order, each once, in pieces that fit; a restart in between changes no byte."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.stage.cursor import Pending, Rows

COLUMNS = {"series": "i4", "pair": ("f8", (2,)), "size": "i2", "buckets": "i4", "counts": "i8"}
LISTS = {"buckets": "size", "counts": "size"}
ROW_BYTES = 4 + 16 + 2
ELEMENT_BYTES = 4 + 8

_rows = st.lists(st.tuples(st.integers(0, 99), st.lists(st.integers(0, 9), max_size=6)), max_size=30)


def pending(most_rows: int = 7, most_bytes: int = 300) -> Pending:
    return Pending(COLUMNS, LISTS, most_rows, most_bytes)


def columns(rows: list[tuple[int, list[int]]]) -> Rows:
    elements = [e for _, own in rows for e in own]
    return {
        "series": np.array([s for s, _ in rows], "i4"),
        "pair": np.array([[s, -s] for s, _ in rows], "f8").reshape(-1, 2),
        "size": np.array([len(own) for _, own in rows], "i2"),
        "buckets": np.array(elements, "i4"),
        "counts": np.array([10 * e for e in elements], "i8"),
    }


def plain(found: Rows) -> list[tuple[int, list[int]]]:
    """The rows of columns; asserts that columns belong together."""
    out, at = [], 0
    for series, pair, size in zip(found["series"], found["pair"], found["size"], strict=True):
        own = found["buckets"][at : at + size].tolist()
        assert found["counts"][at : at + size].tolist() == [10 * e for e in own]
        assert pair.tolist() == [series, -series]
        out.append((int(series), own))
        at += int(size)
    assert at == len(found["buckets"])
    return out


def size_of(rows: list[tuple[int, list[int]]]) -> int:
    return sum(ROW_BYTES + ELEMENT_BYTES * len(own) for _, own in rows)


@given(st.lists(_rows, max_size=6), st.integers(1, 12), st.integers(1, 400))
def test_every_row_leaves_once_in_order_in_pieces_as_large_as_fit(
    batches: list[Any], most_rows: int, most_bytes: int
) -> None:
    waiting = pending(most_rows, most_bytes)
    for batch in batches:
        waiting.add(columns(batch))
    want = [row for batch in batches for row in batch]
    while want:
        got = plain(waiting.take())
        assert got == want[: len(got)]
        assert len(got) == 1 or (len(got) <= most_rows and size_of(got) <= most_bytes)
        if len(got) < min(most_rows, len(want)):
            assert size_of(want[: len(got) + 1]) > most_bytes, "one more would have fitted"
        want = want[len(got) :]
        assert len(waiting) == len(want)
    assert plain(waiting.take()) == []


@given(st.lists(st.one_of(_rows, st.none()), max_size=12))
def test_a_snapshot_and_a_restart_after_each_step_change_no_byte(steps: list[Any]) -> None:
    """A step adds rows, or takes a piece (None)."""
    straight, broken = pending(), pending()
    for step in steps:
        for waiting in (straight, broken):
            if step is not None:
                waiting.add(columns(step))
        if step is None:
            assert plain(straight.take()) == plain(broken.take())
        stored = {name: array.copy() for name, array in broken.arrays().items()}
        assert _bytes(stored) == _bytes(straight.arrays())
        broken = pending()
        broken.restore(stored)
        assert len(broken) == len(straight)


def _bytes(arrays: Rows) -> dict[str, Any]:
    return {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()}


def test_what_a_snapshot_was_given_is_not_changed_by_what_follows() -> None:
    waiting = pending()
    waiting.add(columns([(n, [n % 3] * (n % 4)) for n in range(20)]))
    frozen = waiting.arrays()
    before = _bytes(frozen)
    waiting.take()
    waiting.add(columns([(5, [1])]))
    waiting.arrays()
    waiting.take()
    assert _bytes(frozen) == before


def test_columns_without_lists_need_no_sizes() -> None:
    waiting = Pending({"a": "i8"}, most_rows=2)
    waiting.add({"a": np.arange(3)})
    assert [waiting.take()["a"].tolist() for _ in range(3)] == [[0, 1], [2], []]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"series": np.zeros(2, "i8")}, r"'series' is int64\(\), expected int32"),
        ({"pair": np.zeros((2, 3))}, r"'pair' is float64\(3,\)"),
        ({"series": np.zeros(3, "i4")}, r"unequal length"),
        ({"counts": np.zeros(2, "i8")}, r"lists 'counts' hold 2 elements"),
        ({"novel": np.zeros(2)}, r"have columns"),
    ],
)
def test_rows_that_do_not_fit_the_columns_are_refused(change: Rows, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        pending().add(columns([(1, [2]), (2, [])]) | change)


def test_a_quarter_of_a_million_rows_are_taken_a_piece_a_record() -> None:
    waiting = Pending({"series": "i4", "values": ("f8", (10,))}, most_rows=20_000)
    waiting.add({"series": np.arange(250_000, dtype="i4"), "values": np.ones((250_000, 10))})
    sizes = []
    while len(waiting):
        sizes.append(len(waiting.take()["series"]))
    assert sizes == [20_000] * 12 + [10_000]
