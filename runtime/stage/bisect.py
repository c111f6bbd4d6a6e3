"""Finds the rows of a batch at which code raises, so that a bug costs those rows and not a partition. Pure."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from runtime.errors import MillraceError

T = TypeVar("T")


def bisect(
    first: int, end: int, attempt: Callable[[int, int], T], refuse: Callable[[int, Exception], T]
) -> Iterator[T]:
    """Results for rows `first` to `end`-1, in order: `attempt(first, end)` of each part that it takes without
    raising, as large as halving finds one, and `refuse(row, error)` of each row that it does not take alone.

    One bad row of n costs about 2 log2(n) attempts. MemoryError and errors raised on purpose are passed on: they
    say nothing about the rows.
    """
    try:
        found = attempt(first, end)
    except (MemoryError, MillraceError):
        raise
    except Exception as error:
        failure = error
    else:
        yield found
        return
    if end - first == 1:
        yield refuse(first, failure)
        return
    middle = (first + end) // 2
    yield from bisect(first, middle, attempt, refuse)
    yield from bisect(middle, end, attempt, refuse)
