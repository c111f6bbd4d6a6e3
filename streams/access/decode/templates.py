"""What is known of skeletons: which hole is which metric, time, boot or seq. Learned from the law, within bounds.

A skeleton is decoded once by formats/plain_json.py with a marker in each hole: hole i is the number 10^9 + i, string i
the text "\\x7f" + i. The markers' places in the answer say what each hole means. What the law refuses, or does not
treat the same whatever the hole holds, is no template: such messages go the slow way.

Learning costs tens of microseconds, so a skeleton must be seen twice, a batch learns so many at most, and when the
bounds are reached all is forgotten and learned again: a sender that invents shapes costs a little time, never memory.
"""

import re
from typing import Final

import numpy as np
import orjson

from runtime.columns.types import Int32
from streams.access.decode.formats import plain_json
from streams.access.decode.limits import Invalid, moment
from streams.access.decode.message import Reading
from streams.access.decode.names import MAX_KNOWN, Names

MAX_TEMPLATES: Final = 4096
MAX_LEARNED_A_BATCH: Final = 64
_MAX_SKELETON_BYTES: Final = 4096
_MAX_READINGS: Final = 65_536
_MARK: Final = 10**9
_TEXT_TIME: Final = 1 << 54
"""A time marked by a text: no number of a payload gets there."""
_SIGN: Final = "\x7f"
_TOKEN: Final = re.compile(r'"([^"]*)"(:?)|0')

HOLES, STRINGS, BOOT, SEQ, FIRST, COUNT = range(6)
"""Columns of Templates.heads: holes and strings of the skeleton, hole of boot, of seq, first row and rows in rows."""
METRIC, TIME, TIME_TEXT, VALUE, TEXT, CHILD, CONSTANT = range(7)
"""Columns of Templates.rows, a row a reading: metric code; hole of its time; string of its time; hole of its value;
string of its text; string of its child; 1 when the value is `true`. -1 where there is none."""


class Templates:
    """Skeletons by their bytes. `heads` and `rows` are int32 tables with the columns above."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self.generation = 0
        self._spoilt = False
        self._forget()

    def _forget(self) -> None:
        self._ids: dict[bytes, int] = {}
        self._seen: set[int] = set()
        self._heads, self._rows = _Table(6), _Table(7)

    @property
    def heads(self) -> Int32:
        return self._heads.filled

    @property
    def rows(self) -> Int32:
        return self._rows.filled

    def next_batch(self) -> None:
        """Forget everything if a bound was reached. Codes of names are then reassigned."""
        full = max(len(self._ids) / MAX_TEMPLATES, self._rows.size / _MAX_READINGS, len(self._names.known) / MAX_KNOWN)
        self._names.next_batch()
        if self._spoilt or full >= 1:
            self._forget()
            self._names.forget()
            self._spoilt = False
            self.generation += 1

    def spoil(self) -> None:
        """Something failed while this was in use: forget everything before the next batch."""
        self._spoilt = True

    def lookup(self, skeletons: list[bytes], codes: Int32) -> Int32:
        """The template of each skeleton, -1 where there is none. `codes`: which of them each text of the batch has."""
        found = list(map(self._ids.get, skeletons))
        if None in found:
            counts = np.bincount(codes, minlength=len(skeletons)).tolist()
            worth = [i for i, known in enumerate(found) if known is None and self._is_worth(skeletons[i], counts[i])]
            for i in worth[:MAX_LEARNED_A_BATCH]:
                found[i] = self._ids[skeletons[i]] = self._learn(skeletons[i])
        return np.array([-1 if known is None else known for known in found], np.int32)

    def _is_worth(self, skeleton: bytes, count: int) -> bool:
        """Whether it was seen before. By hash: taking another for it only means learning early."""
        seen = self._seen
        mark = hash(skeleton)
        if count > 1 or mark in seen:
            return len(skeleton) <= _MAX_SKELETON_BYTES
        if len(seen) >= MAX_TEMPLATES:
            seen.clear()
        seen.add(mark)
        return False

    def _learn(self, skeleton: bytes) -> int:
        try:
            text, holes, strings = marked(skeleton.decode("ascii"))
            message = plain_json.flatten(orjson.loads(text), _time, _child)
        except (Invalid, ValueError, IndexError):  # ValueError: of orjson, or no ASCII
            return -1
        first = self._rows.size
        self._rows.add([self._row(reading) for reading in message.readings])
        head = [holes, strings, _hole(message.boot), _hole(message.seq), first, len(message.readings)]
        return self._heads.add([head])

    def _row(self, reading: Reading) -> list[int]:
        metric, value, text, time, child = reading
        return [
            self._names.learn(metric),
            time - _MARK if 0 <= time < _TEXT_TIME else -1,
            time - _TEXT_TIME if time >= _TEXT_TIME else -1,
            int(value) - _MARK if value >= _MARK else -1,
            -1 if text is None else _string(text),
            -1 if child is None else _string(child),
            int(value == 1.0),
        ]


def marked(skeleton: str) -> tuple[str, int, int]:
    """(the skeleton with markers in its holes and strings, number of holes, of strings). Raises Invalid for a hole
    that is not a number by itself: `tru0`, `0e0`."""
    holes = strings = 0

    def mark(found: re.Match[str]) -> str:
        nonlocal holes, strings
        content, colon = found.group(1), found.group(2)
        if content is not None:
            if content or colon:
                return found.group()
            strings += 1
            return f'"{_SIGN}{strings - 1}"'
        if skeleton[found.start() - 1] not in ":[, " or skeleton[found.end()] not in ",]} ":
            raise Invalid("json", "a placeholder is not a number")
        holes += 1
        return str(_MARK + holes - 1)

    return _TOKEN.sub(mark, skeleton), holes, strings


def _hole(number: int) -> int:
    return number - _MARK if number >= 0 else -1


def _string(text: str) -> int:
    return int(text.removeprefix(_SIGN))


def _time(value: object) -> int:
    """As limits.moment, for markers: a text is ISO 8601 until the batch path finds that it is not."""
    return _TEXT_TIME + _string(value) if isinstance(value, str) else moment(value)


def _child(value: object) -> str | None:
    """As the law's, for markers: a text is a device id until the batch path finds that it is not."""
    return value if isinstance(value, str) else plain_json.child_of(value)


class _Table:
    """An int32 table that grows."""

    def __init__(self, columns: int) -> None:
        self._room = np.empty((64, columns), np.int32)
        self.size = 0

    @property
    def filled(self) -> Int32:
        return self._room[: self.size]

    def add(self, rows: list[list[int]]) -> int:
        """Append; the number of the first of them."""
        first, self.size = self.size, self.size + len(rows)
        if self.size > len(self._room):
            more = np.empty((max(self.size, 2 * len(self._room)), self._room.shape[1]), np.int32)
            more[:first] = self._room[:first]
            self._room = more
        self._room[first : self.size] = rows
        return first
