"""A batch of JSON texts to skeletons, numbers and strings, with numpy.

Outside strings every run of `[0-9.-]` is a number and becomes the hole `0`; of every string that is a value only the
quotes stay. What is left is the skeleton: `{"a":21.5,"on":"yes"}` is `{"a":0,"on":""}`. A fleet has few distinct ones.
All numbers of the batch are then parsed as one JSON array, made of `[0-9.,-]` only, so no payload can break out of it.

Nothing here says that a text is JSON: that is settled a skeleton at a time, by the law (templates.py).
"""

from typing import Any, NamedTuple

import numpy as np
import simdjson

from runtime.columns.arrays import positions
from runtime.columns.spans import Positions, binary
from runtime.columns.types import Bool, Bytes, Float64, Int64
from streams.access.decode.limits import MAX_NUMBER

_QUOTE, _COMMA, _COLON, _ZERO, _BACKSLASH = b'",:0\\'
_OPENING, _CLOSING = b"{[", b"}]"
_MAX_NUMBER_CHARS = 24
"""What printing a double takes; parsers may differ about longer ones."""
_SURE_CHARS = 18
"""No number of so many characters, without an exponent, comes near 2^63."""
_parser: Any = simdjson.Parser()


class Tokens(NamedTuple):
    """Of n texts: `skeletons` (BinaryArray), `numbers` of all holes and a NaN behind them, and the value strings at
    body[starts:ends]. Row i has the holes hole[i]:hole[i + 1] and the strings string[i]:string[i + 1]. `fit`: rows to
    be believed."""

    fit: Bool
    skeletons: Any
    numbers: Float64
    hole: Positions
    starts: Positions
    ends: Positions
    string: Positions


def quotes_of(body: Bytes) -> Positions:
    """Where they are."""
    found: Positions = positions(body == _QUOTE)
    return found


def readable(body: Bytes, offsets: Int64, quotes: Positions) -> Bool:
    """Rows body[offsets[i]:offsets[i + 1]] with brackets at both ends and quotes in pairs: others would disturb their
    neighbours. The first begins at 0."""
    filled = offsets[1:] > offsets[:-1]
    if not filled.any():
        return filled
    first, last = body[np.minimum(offsets[:-1], offsets[-1] - 1)], body[offsets[1:] - 1]
    bracketed = ((first == _OPENING[0]) | (first == _OPENING[1])) & ((last == _CLOSING[0]) | (last == _CLOSING[1]))
    at = quotes.searchsorted(offsets)
    mask: Bool = filled & bracketed & ((at[1:] - at[:-1]) & 1 == 0)
    return mask


def tokens(body: Bytes, offsets: Int64, quotes: Positions) -> Tokens:
    """Texts body[offsets[i]:offsets[i + 1]], all readable; the first begins at 0."""
    opened, closed = quotes[0::2] + 1, quotes[1::2]
    odd = ((body - 32) > 94) | (body == _BACKSLASH)
    plain = not odd.any()
    # printable ASCII without backslashes: what strings are then need not be asked
    fit = np.ones(len(offsets) - 1, bool) if plain else ~_rows(offsets, positions(odd))
    inside, starts, ends = _numbers(body, quotes, opened)
    lengths = ends - starts
    hole = starts.searchsorted(offsets)
    numbers = _parse(body, offsets, inside, starts, ends, fit)
    skeleton_offsets = offsets - _sums(lengths - 1)[hole]
    inside[starts] = False  # the first character of a number stays, as the hole
    is_value = body[closed + 1] != _COLON
    opened, closed = opened[is_value], closed[is_value]
    string = opened.searchsorted(offsets)
    if len(opened):
        _mark(inside, opened, closed)
        skeleton_offsets -= _sums(closed - opened)[string]
    holed = body.copy()
    holed[starts] = _ZERO
    chosen = _chosen(holed, ~inside) if plain else holed[~inside].tobytes()
    return Tokens(fit, binary(skeleton_offsets, chosen), numbers, hole, opened, closed, string)


def _chosen(body: Bytes, mask: Bool) -> bytes:
    """body[mask] in half the time. None of the chosen bytes is NUL."""
    return (body * mask).tobytes().translate(None, b"\0")


def _numbers(body: Bytes, quotes: Positions, opened: Positions) -> tuple[Bool, Positions, Positions]:
    """(mask of characters of numbers, their starts, their ends): runs of [0-9.-] outside strings."""
    from_minus = body - 45
    inside = (from_minus <= 12) & (from_minus != 2)  # "-" to "9" without "/"
    edges = positions(inside[1:] != inside[:-1]) + 1  # brackets around texts: starts and ends alternate
    starts, ends = edges[0::2], edges[1::2]
    sure = (body[starts - 1] == _COLON) & (body[starts - 2] == _QUOTE)  # after a key: outside strings
    if (body[opened] == _COLON).any():
        sure[:] = False  # unless a string begins with a colon
    if sure.all():
        return inside, starts, ends
    asked = positions(~sure)
    within = asked[(quotes.searchsorted(starts[asked]) & 1).astype(bool)]
    if len(within):
        inside[_positions(starts[within], ends[within])] = False
        outside = np.ones(len(starts), bool)
        outside[within] = False
        starts, ends = starts[outside], ends[outside]
    return inside, starts, ends


def _parse(body: Bytes, offsets: Int64, inside: Bool, starts: Positions, ends: Positions, fit: Bool) -> Float64:
    """All numbers, -0.0 as 0.0, and a NaN. Rows where one is not JSON's, too long or beyond 2^63 become unfit."""
    numbers = np.empty(len(starts) + 1)
    numbers[-1] = np.nan
    if not len(starts):
        return numbers
    with_comma = inside.copy()
    with_comma[ends] = True
    source = body.copy()
    source[ends] = _COMMA
    joined = _chosen(source, with_comma)[:-1]
    found = _doubles(joined)
    if found is None:
        found, malformed = _halved(joined)
        fit[_rows(offsets, starts[malformed])] = False
    if len(found) != len(starts):
        raise AssertionError(f"{len(starts)} numbers were parsed as {len(found)}")
    numbers[:-1] = found
    lengths = ends - starts
    if lengths.max() > _SURE_CHARS:
        doubtful = (lengths > _MAX_NUMBER_CHARS) | (np.abs(found) >= MAX_NUMBER)
        fit[_rows(offsets, starts[doubtful])] = False
    return numbers


def _doubles(joined: bytes) -> Float64 | None:
    """Numbers with commas between them; None when the parser refuses one."""
    try:
        found: Float64 = np.frombuffer(_parser.parse(b"[" + joined + b"]").as_buffer(of_type="d"), np.float64) + 0.0
    except (ValueError, RuntimeError):
        return None
    return found


def _halved(joined: bytes) -> tuple[Float64, list[int]]:
    """(numbers, 0.0 for those that the parser refuses; which those are). Halved until it takes them: few are."""
    found = _doubles(joined)
    if found is not None:
        return found, []
    comma = joined.find(b",", len(joined) // 2)
    comma = joined.rfind(b",") if comma < 0 else comma
    if comma < 0:
        return np.zeros(1), [0]
    (one, refused), (other, more) = _halved(joined[:comma]), _halved(joined[comma + 1 :])
    return np.concatenate([one, other]), [*refused, *(len(one) + i for i in more)]


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


def _positions(starts: Positions, ends: Positions) -> Int64:
    """All positions of the spans starts[i]:ends[i]."""
    sizes = ends - starts
    firsts: Int64 = np.repeat(starts - np.cumsum(sizes) + sizes, sizes)
    return firsts + np.arange(len(firsts))


def _mark(mask: Bool, starts: Positions, ends: Positions) -> None:
    """Set mask[starts[i]:ends[i]] for all i; spans do not overlap and may be empty."""
    mask[_positions(starts, ends)] = True
