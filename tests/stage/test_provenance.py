"""The chain of derived records: what a reader takes, drops and refuses. Schedules of writers by hypothesis."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import RefusedError
from runtime.stage.provenance import START, Decision, Highest, after, judge
from schemas.headers import Provenance


@pytest.mark.parametrize(
    ("highest", "record", "decision"),
    [
        (START, (0, 0, -1), Decision.APPLY),
        (START, (0, 7, -1), Decision.APPLY),
        (START, (3, 7, -1), Decision.APPLY),
        (Highest(0, 7), (0, 9, 7), Decision.APPLY),
        (Highest(0, 7), (0, 7, 5), Decision.DROP),
        (Highest(0, 7), (0, 2, -1), Decision.DROP),
        (Highest(1, 7), (0, 99, 98), Decision.DROP),
        (Highest(0, 7), (1, 0, -1), Decision.APPLY),
        (Highest(0, 7), (1, 4, -1), Decision.APPLY),
    ],
)
def test_a_record_is_new_or_a_repeat(highest: Highest, record: tuple[int, int, int], decision: Decision) -> None:
    assert judge(highest, Provenance(*record), "here") is decision


@pytest.mark.parametrize(
    ("highest", "record"),
    [(START, (0, 5, 4)), (Highest(0, 7), (0, 9, 8)), (Highest(0, 7), (0, 9, -1)), (Highest(0, 7), (1, 3, 2))],
)
def test_a_gap_is_refused_with_a_line_that_says_where(highest: Highest, record: tuple[int, int, int]) -> None:
    with pytest.raises(RefusedError, match=r"readings/3 offset 12: gap in provenance.*Nothing was skipped"):
        judge(highest, Provenance(*record), "readings/3 offset 12")


@given(st.data())
def test_whatever_writers_repeat_a_reader_takes_each_record_once(data: st.DataObject) -> None:
    """Writers start at or before what is written, zombies go on for a while: the log is made of such runs."""
    sources = sorted(data.draw(st.sets(st.integers(0, 60), min_size=1, max_size=25)))
    chain = [Provenance(0, src, prev) for src, prev in zip(sources, [-1, *sources], strict=False)]
    log: list[Provenance] = []
    written = 0
    while written < len(chain):
        start = data.draw(st.integers(0, written))
        length = data.draw(st.integers(1, len(chain) - start))
        log += chain[start : start + length]
        written = max(written, start + length)
    highest, taken = START, []
    for record in log:
        if judge(highest, record, "x") is Decision.APPLY:
            taken.append(record)
            highest = after(record)
    assert taken == chain


@given(st.lists(st.integers(0, 30), min_size=3, max_size=12, unique=True).map(sorted), st.data())
def test_a_lost_record_is_never_passed_over(sources: list[int], data: st.DataObject) -> None:
    chain = [Provenance(0, src, prev) for src, prev in zip(sources, [-1, *sources], strict=False)]
    del chain[data.draw(st.integers(0, len(chain) - 2))]
    with pytest.raises(RefusedError):
        _take_all(chain)


def _take_all(chain: list[Provenance]) -> None:
    highest = START
    for record in chain:
        judge(highest, record, "x")
        highest = after(record)
