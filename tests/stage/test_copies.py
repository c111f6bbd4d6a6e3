"""A copy of a state is what the state was, whatever becomes of the state; its buffers are used again."""

import numpy as np
import pytest

from runtime.stage.contract import Frozen
from runtime.stage.copies import Copies, Copy, allocate

LARGE = 20_000


def copied(copies: Copies, frozen: Frozen) -> Copy:
    copies.add(allocate(copies.lacking(frozen)))
    return copies.take(frozen)


def test_what_changes_afterwards_does_not_change_the_copy() -> None:
    small, large, words = np.arange(5), np.arange(float(LARGE)), ["a"]
    copy = copied(Copies(), Frozen({"words": words}, {"small": small, "large": large[: LARGE - 7]}))
    small[0], large[0] = 99, 99
    words.append("b")
    assert copy.meta == b'{"words":["a"]}'
    assert copy.arrays["small"].tolist() == list(range(5))
    assert copy.arrays["large"].tolist() == list(range(LARGE - 7))
    assert copy.nbytes == len(copy.meta) + 5 * 8 + (LARGE - 7) * 8


def test_views_of_any_order_are_copied_in_the_order_of_their_rows() -> None:
    table = np.arange(LARGE * 2).reshape(LARGE, 2)
    got = copied(Copies(), Frozen(None, {"column": table[:, 1], "turned": table.T, "one": np.array(5)})).arrays
    for name, want in (("column", table[:, 1]), ("turned", table.T), ("one", np.array(5))):
        array = got[name]
        assert isinstance(array, np.ndarray)
        assert array.shape == want.shape and array.flags.c_contiguous and np.array_equal(array, want)


def test_the_memory_of_a_copy_given_back_is_used_again_with_room_to_grow() -> None:
    copies = Copies()
    first = copied(copies, Frozen(None, {"a": np.zeros(LARGE)}))
    memory = first.buffers["a"]
    copies.give_back(first)
    larger = Frozen(None, {"a": np.ones(LARGE + LARGE // 8)})
    assert copies.lacking(larger) == {}
    second = copies.take(larger)
    assert np.shares_memory(second.arrays["a"], memory)
    copies.give_back(second)
    much = Frozen(None, {"a": np.ones(2 * LARGE)})
    assert copies.lacking(much) == {"a": 16 * LARGE}
    assert copied(copies, much).arrays["a"].sum() == 2 * LARGE


def test_no_copy_is_made_into_the_memory_of_one_that_is_still_in_use() -> None:
    copies = Copies()
    first = copied(copies, Frozen(None, {"a": np.zeros(LARGE)}))
    second = copied(copies, Frozen(None, {"a": np.ones(LARGE)}))
    assert not np.shares_memory(first.arrays["a"], second.arrays["a"])
    assert first.arrays["a"].sum() == 0


def test_an_array_that_is_refused_takes_no_buffer_with_it() -> None:
    copies = Copies()
    copies.add(allocate({"a": 8 * LARGE}))
    with pytest.raises(TypeError):
        copies.take(Frozen(None, {"a": np.zeros(LARGE), "odd": np.array([{}])}))
    assert copies.lacking(Frozen(None, {"a": np.zeros(LARGE)})) == {}


@pytest.mark.parametrize("array", [np.array([{}]), np.zeros(2, [("a", "i4"), ("b", "i4")])])
def test_arrays_whose_bytes_are_not_their_value_are_refused(array: object) -> None:
    with pytest.raises(TypeError, match="array 'odd' of a state"):
        Copies().take(Frozen(None, {"odd": array}))
