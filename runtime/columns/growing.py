"""Arrays that only grow at their end, and words numbered in order of appearance.

What was appended never changes, so a view of it is a snapshot: no copy while the flow waits.
"""

from typing import Any, Final

import numpy as np
import pyarrow as pa

from runtime.columns.types import Int64

NONE: Final = -1


class Growing:
    """`all`: everything appended so far, shape [n, …]."""

    def __init__(self, kind: Any, width: tuple[int, ...] = ()) -> None:
        self._room: Any = np.zeros((64, *width), kind)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def all(self) -> Any:
        """A view. What it shows stays as it is, whatever is appended later."""
        return self._room[: self._size]

    def append(self, values: Any) -> None:
        size = self._size + len(values)
        if size > len(self._room):
            bigger = np.zeros((max(size, 2 * len(self._room)), *self._room.shape[1:]), self._room.dtype)
            bigger[: self._size] = self.all
            self._room = bigger  # views keep the old one
        self._room[self._size : size] = values
        self._size = size

    @property
    def nbytes(self) -> int:
        return int(self._room.nbytes)


class Words:
    """Numbers 0, 1, 2 … in order of `add`. For names of which there are few, or that are looked up once a batch."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._list: list[str] = []
        self._ends = Growing(np.int64)
        self._body = Growing(np.uint8)

    def __len__(self) -> int:
        return len(self._list)

    def find(self, words: Any) -> Int64:
        """The number of each word of a StringArray without nulls, NONE where it is not there."""
        get = self._numbers.get
        return np.array([get(word, NONE) for word in words.to_pylist()], np.int64)

    def add(self, word: str) -> int:
        """The number of a word, new or known."""
        found = self._numbers.get(word)
        if found is not None:
            return found
        self._numbers[word] = number = len(self._list)
        self._list.append(word)
        self._body.append(np.frombuffer(word.encode(), np.uint8))
        self._ends.append([len(self._body)])
        return number

    def number(self, word: str) -> int:
        """The number of one word, NONE where it is not there."""
        return self._numbers.get(word, NONE)

    def word(self, number: int) -> str:
        return self._list[number]

    def words(self, numbers: Int64) -> Any:
        """The StringArray of these numbers."""
        return pa.array([self._list[n] for n in numbers.tolist()], pa.string())

    def freeze(self) -> tuple[Any, Any]:
        """(int64[words] end of each word in the bytes, uint8[…] UTF-8 bytes); views."""
        return self._ends.all, self._body.all

    def restore(self, ends: Any, body: Any) -> None:
        """Take what `freeze` gave for what is there."""
        whole, begin = body.tobytes(), 0
        self.__init__()  # type: ignore[misc]
        for end in ends.tolist():
            self.add(whole[begin:end].decode())
            begin = end
