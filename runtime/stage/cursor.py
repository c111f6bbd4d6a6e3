"""More to say than fits into one record: rows wait in the state and leave in order, a bounded piece a record.

A stage writes at most one record of a topic for each source record. Where a tick closes a quarter of a million windows,
their rows are added here at once and taken piece by piece, one with each source record that follows:

    self.pending = Pending({"series": "i4", "count": "i8", "buckets": "i4", "size": "i4"}, lists={"buckets": "size"})
    ...
    def apply(self, record):
        if record.kind is Kind.TICK:
            self.pending.add(self.close_windows())       # columns, one array each
        rows = self.pending.take()                       # perhaps none
        if record.kind is Kind.TICK or len(rows["series"]):
            return [Output(AGGREGATES, ipc.encode(batch_of(rows)), headers)]
        return []

What is taken depends on the rows that wait and on nothing else, not on how they came; so a restart takes the same
pieces. The rows that wait are part of the snapshot: `arrays()` and back with `restore()`. Pure.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from runtime.columns.types import Int64

Rows = dict[str, Any]
"""Column -> array, one entry a row; of a list column the elements of all rows, one row's after the other's."""

MOST_ROWS: Final = 20_000
MOST_BYTES: Final = 4 << 20
"""What an output holds at most. The topics behind access take records of 16 MB."""


class Pending:
    """Rows that wait. `columns`: name -> numpy type, `(type, shape)` where a row has several of them. `lists`: name of
    a list column -> name of the column that says how many elements of it each row has (several may share one).

    `take` gives at most `most_rows` rows of together at most `most_bytes`, but one row always.
    """

    def __init__(
        self,
        columns: Mapping[str, npt.DTypeLike],
        lists: Mapping[str, str] | None = None,
        most_rows: int = MOST_ROWS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.columns = {name: np.dtype(kind) for name, kind in columns.items()}
        self.lists = dict(lists or {})
        self.most_rows, self.most_bytes = most_rows, most_bytes
        self._batches: deque[_Batch] = deque()
        self._rows = 0

    def __len__(self) -> int:
        """Rows that wait."""
        return self._rows

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for batch in self._batches for array in batch.rows.values())

    def add(self, rows: Rows) -> None:
        """Put rows behind those that wait. The arrays are kept, not copied: do not write to them afterwards.

        Raises ValueError when columns are missing, of another type or of unequal length.
        """
        batch = _Batch(self, rows)
        if batch.size:
            self._batches.append(batch)
            self._rows += batch.size

    def take(self) -> Rows:
        """The next rows, which wait no longer; empty columns when there are none."""
        pieces: list[Rows] = []
        rows, size = self.most_rows, self.most_bytes
        while self._batches and rows > 0:
            batch = self._batches[0]
            count = batch.fitting(rows, size, at_least=0 if pieces else 1)
            rows, size = rows - count, size - batch.bytes_of_next(count)
            if count:
                pieces.append(batch.next(count))
            if batch.size:
                break
            self._batches.popleft()
        found = self._joined(pieces)
        self._rows -= self.most_rows - rows
        return found

    def arrays(self) -> Rows:
        """All rows that wait, for a snapshot; later calls change none of these arrays. `take` as often gives them."""
        if len(self._batches) > 1:
            self._batches = deque([_Batch(self, self._joined([batch.rest() for batch in self._batches]))])
        return self._batches[0].rest() if self._batches else self._joined([])

    def restore(self, arrays: Rows) -> None:
        """Take these rows, as `arrays` gave them, for those that wait. Raises ValueError as `add` does."""
        self._batches.clear()
        self._rows = 0
        self.add({name: arrays[name] for name in self.columns if name in arrays})

    def _joined(self, pieces: list[Rows]) -> Rows:
        if len(pieces) == 1:
            return pieces[0]
        return {
            name: np.concatenate([piece[name] for piece in pieces]) if pieces else np.zeros(0, kind)
            for name, kind in self.columns.items()
        }


class _Batch:
    """Rows that were added together, and a cursor: those before it are taken."""

    def __init__(self, owner: Pending, rows: Rows) -> None:
        _check(owner, rows)
        self.rows, self.lists = rows, owner.lists
        self._length = len(next(iter(rows[name] for name in rows if name not in owner.lists)))
        self._ends = {sizes: _ends(rows[sizes]) for sizes in set(owner.lists.values())}
        self._bytes = _ends(np.full(self._length, _bytes_a_row(owner)))
        for name, sizes in owner.lists.items():
            self._bytes = self._bytes + self._ends[sizes] * owner.columns[name].itemsize
        self._at = 0

    @property
    def size(self) -> int:
        return self._length - self._at

    def fitting(self, rows: int, size_bytes: int, at_least: int) -> int:
        """How many of the next rows fit."""
        fit = int(np.searchsorted(self._bytes, self._bytes[self._at] + size_bytes, "right")) - 1 - self._at
        return min(self.size, rows, max(at_least, fit))

    def bytes_of_next(self, count: int) -> int:
        return int(self._bytes[self._at + count] - self._bytes[self._at])

    def next(self, count: int) -> Rows:
        """So many rows from the cursor on, which moves behind them."""
        begin, self._at = self._at, self._at + count
        return self._cut(begin, self._at)

    def rest(self) -> Rows:
        return self._cut(self._at, self._length)

    def _cut(self, begin: int, end: int) -> Rows:
        found = {}
        for name, array in self.rows.items():
            ends = self._ends[self.lists[name]] if name in self.lists else None
            found[name] = array[begin:end] if ends is None else array[ends[begin] : ends[end]]
        return found


def _check(owner: Pending, rows: Rows) -> None:
    if set(rows) != set(owner.columns):
        raise ValueError(f"pending rows have columns {sorted(rows)}, expected {sorted(owner.columns)}")
    for name, kind in owner.columns.items():
        if rows[name].dtype != kind.base or rows[name].shape[1:] != kind.shape:
            raise ValueError(f"pending column {name!r} is {rows[name].dtype}{rows[name].shape[1:]}, expected {kind}")
    lengths = {name: len(rows[name]) for name in rows if name not in owner.lists}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"pending columns are of unequal length: {lengths}")
    for name, sizes in owner.lists.items():
        if len(rows[name]) != rows[sizes].sum():
            raise ValueError(f"pending lists {name!r} hold {len(rows[name])} elements, {sizes!r} says otherwise")


def _bytes_a_row(owner: Pending) -> int:
    return sum(kind.itemsize for name, kind in owner.columns.items() if name not in owner.lists)


def _ends(sizes: Any) -> Int64:
    """Where each row begins and the last ends: int64[rows + 1]."""
    found = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=found[1:])
    return found
