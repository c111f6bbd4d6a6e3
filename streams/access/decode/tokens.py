"""A batch of JSON texts to skeletons, numbers and strings, with numpy.

Outside strings every run of `[0-9.-]` is a number and becomes the hole `0`; of every string that is a value only the
quotes stay. What is left is the skeleton: `{"a":21.5,"on":"yes"}` is `{"a":0,"on":""}`. A fleet has few distinct ones.
All numbers of the batch are then parsed as one JSON array, made of `[0-9.,-]` only, so no payload can break out of it.

Nothing here says that a text is JSON: that is settled a skeleton at a time, by the law (templates.py). Texts that do
not lend themselves to this (escapes, other than printable ASCII, numbers of more than 17 characters) are named in
`Unfit`; the caller leaves them out and comes again.
"""

from typing import Any, NamedTuple

import numpy as np
import orjson
import simdjson

from streams.access.decode.columns import Bool, Bytes, Float64, Int64
from streams.access.decode.spans import Positions, binary

_QUOTE, _COMMA, _COLON, _ZERO, _BACKSLASH = b'",:0\\'
_OPENING, _CLOSING = b"{[", b"}]"
_MAX_NUMBER_CHARS = 17
"""Longer ones may be beyond 2^63, and few senders write them."""
_CHUNK = 64
_parser: Any = simdjson.Parser()


class Unfit(Exception):
    """Rows that must leave the batch before it can be read this way: a mask of its rows."""

    def __init__(self, rows: Bool) -> None:
        super().__init__("rows unfit for the batch path")
        self.rows = rows


class Tokens(NamedTuple):
    """Of n texts: `skeletons` (BinaryArray), `numbers` of all holes, and the value strings at body[starts:ends].
    Row i has the holes hole[i]:hole[i + 1] and the strings string[i]:string[i + 1]."""

    skeletons: Any
    numbers: Float64
    hole: Positions
    starts: Positions
    ends: Positions
    string: Positions


def tokens(body: Bytes, offsets: Int64) -> Tokens:
    """Text i is body[offsets[i]:offsets[i + 1]]; none is empty, the first begins at 0. Raises Unfit."""
    quotes = np.flatnonzero(body == _QUOTE)
    _check(body, offsets, quotes)
    opened, closed = quotes[0::2] + 1, quotes[1::2]
    colon = body[opened] == _COLON  # a string that begins with a colon would look like the colon after a key
    if colon.any():
        raise Unfit(_rows(offsets, opened[colon]))
    inside, starts, ends = _numbers(body, quotes)
    sizes = ends - starts
    if len(sizes) and sizes.max() > _MAX_NUMBER_CHARS:
        raise Unfit(_rows(offsets, starts[sizes > _MAX_NUMBER_CHARS]))
    hole = np.searchsorted(starts, offsets)
    numbers = _parse(body, offsets, inside, starts, ends)
    is_value = body[closed + 1] != _COLON
    opened, closed = opened[is_value], closed[is_value]
    string = np.searchsorted(opened, offsets)
    skeleton_offsets = offsets - _sums(sizes - 1)[hole]
    inside[starts] = False  # the first character of a number stays, as the hole
    if len(opened):
        _mark(inside, opened, closed)
        skeleton_offsets -= _sums(closed - opened)[string]
    holed = body.copy()
    holed[starts] = _ZERO
    return Tokens(binary(skeleton_offsets, holed[~inside]), numbers, hole, opened, closed, string)


def _check(body: Bytes, offsets: Int64, quotes: Positions) -> None:
    """Brackets at both ends, quotes in pairs, printable ASCII without backslashes."""
    first, last = body[offsets[:-1]], body[offsets[1:] - 1]
    unfit = ((first != _OPENING[0]) & (first != _OPENING[1])) | ((last != _CLOSING[0]) & (last != _CLOSING[1]))
    odd = ((body - 32) > 94) | (body == _BACKSLASH)
    if odd.any():
        unfit |= _rows(offsets, np.flatnonzero(odd))
    at = np.searchsorted(quotes, offsets)
    unfit |= ((at[1:] - at[:-1]) & 1).astype(bool)
    if unfit.any():
        raise Unfit(unfit)


def _numbers(body: Bytes, quotes: Positions) -> tuple[Bool, Positions, Positions]:
    """(mask of characters of numbers, their starts, their ends): runs of [0-9.-] outside strings."""
    from_minus = body - 45
    inside = (from_minus <= 12) & (from_minus != 2)  # "-" to "9" without "/"
    edges = (
        np.flatnonzero(inside[1:] != inside[:-1]) + 1
    )  # texts begin and end with brackets: starts and ends alternate
    starts, ends = edges[0::2], edges[1::2]
    sure = (body[starts - 1] == _COLON) & (body[starts - 2] == _QUOTE)  # after a key: outside strings
    if sure.all():
        return inside, starts, ends
    asked = np.flatnonzero(~sure)
    within = asked[(np.searchsorted(quotes, starts[asked]) & 1).astype(bool)]
    if len(within):
        sizes = ends[within] - starts[within]
        firsts = np.repeat(starts[within] - np.cumsum(sizes) + sizes, sizes)
        inside[firsts + np.arange(len(firsts))] = False
        outside = np.ones(len(starts), bool)
        outside[within] = False
        starts, ends = starts[outside], ends[outside]
    return inside, starts, ends


def _parse(body: Bytes, offsets: Int64, inside: Bool, starts: Positions, ends: Positions) -> Float64:
    """All numbers, -0.0 as 0.0. Raises Unfit for rows with one that is not by JSON's grammar."""
    if not len(starts):
        return np.zeros(0)
    with_comma = inside.copy()
    with_comma[ends] = True
    source = body.copy()
    source[ends] = _COMMA
    joined = b"[" + source[with_comma].tobytes()[:-1] + b"]"
    try:
        found: Float64 = np.frombuffer(_parser.parse(joined).as_buffer(of_type="d"), np.float64) + 0.0
    except (ValueError, RuntimeError):
        raise Unfit(_rows(offsets, starts[_malformed(joined[1:-1].split(b","))])) from None
    if len(found) != len(starts):
        raise AssertionError(f"{len(starts)} numbers were parsed as {len(found)}")
    return found


def _malformed(texts: list[bytes]) -> list[int]:
    """Which of them are no JSON numbers. In chunks, as most are."""
    found = []
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        if not _is_json(b"[" + b",".join(chunk) + b"]"):
            found += [start + i for i, text in enumerate(chunk) if not _is_json(text)]
    return found


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _rows(offsets: Int64, positions: Positions) -> Bool:
    """Mask of the rows in which these positions lie."""
    mask = np.zeros(len(offsets) - 1, bool)
    mask[np.searchsorted(offsets, positions, "right") - 1] = True
    return mask


def _sums(sizes: Positions) -> Int64:
    """Running sums, from 0."""
    out = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=out[1:])
    return out


def _mark(mask: Bool, starts: Positions, ends: Positions) -> None:
    """Set mask[starts[i]:ends[i]] for all i; spans do not overlap."""
    sizes = ends - starts
    firsts = np.repeat(starts - np.cumsum(sizes) + sizes, sizes)
    mask[firsts + np.arange(len(firsts))] = True
