"""Keys get the numbers that a plain dictionary would give, whatever was removed between."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runtime.columns.keys import NONE, KeyTable

keys = st.lists(st.integers(-3, 12) | st.integers(-(1 << 63) + 1, (1 << 63) - 1), max_size=30)


def column(found: list[int]) -> np.ndarray:
    return np.array(found, np.int64)


@given(st.lists(st.tuples(keys, keys), max_size=6))
def test_numbers_are_those_of_a_plain_dictionary(steps: list[tuple[list[int], list[int]]]) -> None:
    table, plain, given_out = KeyTable(), dict[int, int](), 0
    for asked, removed in steps:
        for key in asked:
            if key not in plain:
                plain[key], given_out = given_out, given_out + 1
        assert table.number(column(asked)).tolist() == [plain[key] for key in asked]
        assert len(table) == given_out
        there = [plain.pop(key) for key in set(removed) if key in plain]
        table.remove(np.array(there, np.int64))
        everything = asked + removed
        assert table.find(column(everything)).tolist() == [plain.get(key, NONE) for key in everything]
    again = KeyTable()
    again.restore(column(list(plain)))
    assert again.find(column(list(plain))).tolist() == list(range(len(plain)))


def test_many_rows_of_few_keys_and_many_keys_at_once() -> None:
    table = KeyTable()
    few = np.arange(50_000) % 3
    assert (table.number(few) == few).all()
    many = np.random.default_rng(1).integers(-(1 << 62), 1 << 62, 200_000)
    numbers = table.number(many)
    assert (table.find(many) == numbers).all()
    assert (table.keys[numbers] == many).all()
    assert (numbers == 3 + np.arange(200_000)).all(), "in order of the rows"


def test_a_thousand_removals_of_the_same_key_do_not_slow_it_down() -> None:
    table = KeyTable()
    for _ in range(5_000):
        table.remove(table.number(column([7, 8])))
    assert len(table) == 10_000
    assert table.find(column([7, 8])).tolist() == [NONE, NONE]
