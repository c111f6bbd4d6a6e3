"""Series as messages: exact, complete, in order of time when paced; and the comparison with what is stored."""

from collections import Counter
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.fleet.replay import ReplayError, Rows, messages, paced, verify
from local.fleet.series import Series

VALUES = st.floats(allow_nan=False, allow_infinity=False, min_value=-(2.0**62), max_value=2.0**62).map(
    lambda x: x + 0.0
)
ROWS = st.lists(st.tuples(st.integers(-(2**40), 2**42), VALUES), min_size=1, max_size=40)


def series(rows: list[tuple[int, float]], device: str = "a") -> Series:
    return Series(device, Path("a.csv"), tuple(rows), 0)


def rows_of(payload: bytes) -> list[tuple[int, float]]:
    return [(one["ts"], one["value"]) for one in orjson.loads(payload)]


@given(ROWS)
def test_every_row_is_in_a_message_to_the_last_bit(rows: list[tuple[int, float]]) -> None:
    found = messages(series(rows), boot=3, rows_a_message=7)
    assert [row for one in found for row in rows_of(one.payload)] == rows
    assert [one.name for one in found] == [(3, seq) for seq in range(len(found))]


@given(ROWS, st.sampled_from([1.0, 3600.0, 1e6]))
def test_paced_rows_are_all_there_in_order_of_time(rows: list[tuple[int, float]], speed: float) -> None:
    steps = paced([series(rows, "a"), series(rows, "b")], 1, speed)
    assert [step.due_s for step in steps] == sorted(step.due_s for step in steps)
    for device in ("a", "b"):
        mine = [step for step in steps if step.device == device]
        found = [row for step in mine for row in rows_of(step.publication.payload)]
        assert Counter(found) == Counter(rows)
        assert [time for time, _ in found] == sorted(time for time, _ in found)
        assert [step.publication.name for step in mine] == [(1, seq) for seq in range(len(mine))]


def test_a_day_at_the_speed_of_a_day_a_minute_takes_a_minute() -> None:
    day = [(minute * 60_000, 1.0) for minute in range(24 * 60 + 1)]
    steps = paced([series(day)], 1, 24 * 60)
    assert steps[0].due_s == 0
    assert steps[-1].due_s == pytest.approx(60, abs=0.2)


class MemoryStore:
    """A store in memory."""

    def __init__(self, rows: list[tuple[int, float]]) -> None:
        self._rows = Counter(rows)

    def counts(self, boot: int) -> dict[str, int]:
        return {"a": self._rows.total()}

    def rows(self, device: str, boot: int) -> Rows:
        return self._rows


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ([(0, 1.0), (0, 1.0)], "1 rows are missing and 0 are too many"),
        ([(0, 1.0), (0, 1.0), (1, 2.0), (1, 2.0)], "0 rows are missing and 1 are too many"),
        ([(0, 1.0), (0, 1.0), (1, 2.0000000000000004)], "1 rows are missing and 1 are too many"),
    ],
)
def test_what_differs_is_named(stored: list[tuple[int, float]], message: str) -> None:
    wanted = series([(0, 1.0), (0, 1.0), (1, 2.0)])
    verify([wanted], 1, MemoryStore(list(wanted.rows)))
    with pytest.raises(ReplayError, match=message):
        verify([wanted], 1, MemoryStore(stored))
