"""The batch path: plain JSON by skeletons and templates. It only ever says what the law would say, or nothing.

Property, tested: fast(batch) == map(law, batch), bit for bit. Rows that it does not answer are `open` still and go the
slow way, which alone gives reasons.
"""

from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from runtime.columns.arrays import positions
from runtime.columns.spans import Strings, lying
from runtime.columns.types import Bool, Bytes, Float64, Int32, Int64
from schemas.stamps import MAX_WHOLE
from streams.access.decode import templates as columns_of
from streams.access.decode import tokens as reader
from streams.access.decode.limits import CHILD_CHARS, MAX_CHILD_CHARS, Invalid, is_child, iso
from streams.access.decode.message import NO_TIME
from streams.access.decode.part import Part, empty
from streams.access.decode.templates import Templates
from streams.access.decode.tokens import Tokens


class Answer(NamedTuple):
    """Readings of the rows in `done`, and boot and seq of those rows."""

    part: Part
    done: Int64
    boot: Int64
    seq: Int64


_NOTHING: Final = Answer(empty(), *(np.zeros(0, np.int64) for _ in range(3)))


def answer(payloads: Any, open_rows: Bool, templates: Templates) -> Answer:
    """What can be said of the payloads (BinaryArray) in `open_rows` at once."""
    body, offsets, quotes = _lying(payloads)
    rows = positions(open_rows & reader.readable(body, offsets, quotes))
    if not len(rows):
        return _NOTHING
    if len(rows) < len(payloads):
        body, offsets, quotes = _lying(payloads.take(pa.array(rows)))
    found = reader.tokens(body, offsets, quotes)
    template = _templates(found, templates)
    known = positions(template >= 0)
    if not len(known):
        return _NOTHING
    if len(known) < len(rows):
        rows, template = rows[known], template[known]
    decoded = _apply(rows, known, body, found, templates.heads.take(template, axis=0), templates.rows)
    return decoded if len(rows) == len(payloads) else decoded._replace(part=decoded.part.at(rows.astype(np.int32)))


def _lying(payloads: Any) -> tuple[Bytes, Int64, Any]:
    """(bytes, where each payload begins and ends in them, where quotes are)."""
    offsets, body = lying(payloads)
    body = body[offsets[0] : offsets[-1]]
    return body, offsets - offsets[0], reader.quotes_of(body)


def _templates(found: Tokens, templates: Templates) -> Int32:
    """The template of each text, -1 where there is none."""
    encoded = found.skeletons.dictionary_encode()
    codes = encoded.indices.to_numpy()
    known: Int32 = templates.lookup(encoded.dictionary.to_pylist(), codes)[codes]
    return known if found.fit.all() else np.where(found.fit, known, -1)


def _apply(rows: Int64, known: Any, body: Bytes, found: Tokens, heads: Int32, table: Int32) -> Answer:
    """Readings of the texts in `known`, whose templates' heads are given; rows[i] is the row of heads[i]. The rows of
    the readings are places in `heads` still."""
    if len(known) == len(found.fit):
        known = slice(None)
    holes, texts = found.hole[:-1][known], found.string[:-1][known]
    if (found.hole[1:][known] - holes != heads[:, columns_of.HOLES]).any():
        raise AssertionError("holes of a template")
    if (found.string[1:][known] - texts != heads[:, columns_of.STRINGS]).any():
        raise AssertionError("strings of a template")
    name, right = _names(found.numbers, heads, holes)
    part, wrong = _readings(body, found, table, heads, holes, texts)
    right[wrong] = False
    if not right.all():
        return Answer(part.keep(right[part.row]), rows[right], *name[:, right])
    return Answer(part, rows, *name)


def _names(numbers: Float64, heads: Int32, first: Any) -> tuple[Int64, Bool]:
    """(boot and seq of each row, -1 where absent; whether both are as limits.whole wants them)."""
    hole = heads.T[columns_of.BOOT : columns_of.SEQ + 1]
    given = hole >= 0
    if not given.any():
        return np.full(hole.shape, -1, np.int64), np.ones(len(first), bool)
    number = numbers[hole + first] if given.all() else np.where(given, numbers[np.where(given, hole + first, -1)], 0.0)
    name = number.astype(np.int64)
    right = (name == number) & (number >= 0) & (number < MAX_WHOLE)
    name[~(right & given)] = -1
    return name, right[0] & right[1]


def _readings(body: Bytes, found: Tokens, table: Int32, heads: Int32, holes: Any, texts: Any) -> tuple[Part, Any]:
    """(all readings, by place in `heads`; places whose times or children the law has to judge)."""
    counts = heads[:, columns_of.COUNT]
    ends = np.cumsum(counts)
    place = np.arange(len(counts), dtype=np.int32).repeat(counts)
    index = np.arange(ends[-1], dtype=np.int32) - (ends - counts).astype(np.int32)[place]
    entry = table.take(index + heads[:, columns_of.FIRST][place], axis=0).T
    first_hole = holes[place]
    value = _values(found.numbers, entry, first_hole)
    time_ms, wrong = _times(found.numbers, entry[columns_of.TIME], first_hole)
    part = Part(place, index, entry[columns_of.METRIC], time_ms, value)
    if not len(found.starts):
        return part, place[wrong]
    first_text = texts[place]
    strings = Strings(body, found.starts, found.ends)
    text = _texts(strings, entry[columns_of.TEXT], first_text)
    if text is not None:
        value[entry[columns_of.TEXT] >= 0] = np.nan
    child, children, no_ids = _children(strings, entry[columns_of.CHILD], first_text)
    no_times = _text_times(strings, entry[columns_of.TIME_TEXT], first_text, time_ms)
    wrongs = np.concatenate([wrong, no_ids, no_times])
    return replace(part, text=text, child=child, children=children), place[wrongs]


def _values(numbers: Float64, entry: Int32, first: Any) -> Float64:
    hole = entry[columns_of.VALUE]
    given = hole >= 0
    if given.all():
        all_given: Float64 = numbers[hole + first]
        return all_given
    return np.where(given, numbers[np.where(given, hole + first, -1)], entry[columns_of.CONSTANT])


def _times(numbers: Float64, hole: Int32, first: Any) -> tuple[Int64, Any]:
    """(milliseconds, readings whose number is not as limits.moment wants it)."""
    given = hole >= 0
    if not given.any():
        return np.full(len(hole), NO_TIME, np.int64), np.zeros(0, np.int64)
    number = np.where(given, numbers[np.where(given, hole + first, -1)], 0.0)
    wrong = (np.abs(number) >= MAX_WHOLE) | (number != np.floor(number))
    number[wrong] = 0.0
    return np.where(given, number.astype(np.int64), NO_TIME), positions(wrong)


def _texts(strings: Strings, string: Int32, first: Any) -> Any:
    """The strings that readings name, as a StringArray; None when no reading names one."""
    given = string >= 0
    if not given.any():
        return None
    return strings.take(np.where(given, string + first, 0), ~given)


def _children(strings: Strings, string: Int32, first: Any) -> tuple[Int32 | None, tuple[str, ...], Int64]:
    """(codes, ids, readings whose child is not a valid device id)."""
    given = positions(string >= 0)
    if not len(given):
        return None, (), given
    encoded = strings.take((string + first)[given]).dictionary_encode()
    children = tuple(encoded.dictionary.to_pylist())
    codes = np.full(len(string), -1, np.int32)
    codes[given] = encoded.indices.to_numpy()
    if _are_children(encoded.dictionary):
        return codes, children, given[:0]
    wrong = np.array([not is_child(name) for name in children] + [False])
    return codes, children, positions(wrong[codes])


def _are_children(ids: Any) -> bool:
    """Whether all of a StringArray are device ids, as limits.is_child has it, without asking for each."""
    offsets, body = lying(ids)
    lengths = offsets[1:] - offsets[:-1]
    few = int(lengths.min()) >= 1 and int(lengths.max()) <= MAX_CHILD_CHARS
    return few and not body[offsets[0] : offsets[-1]].tobytes().translate(None, CHILD_CHARS)


def _text_times(strings: Strings, string: Int32, first: Any, time_ms: Int64) -> Any:
    """Fill in times given as ISO 8601; readings where the text is none. Readings of an object share theirs."""
    given = positions(string >= 0)
    if not len(given):
        return given
    which, back = np.unique((string + first)[given], return_inverse=True)
    parsed = np.array([_iso(text) for text in strings.take(which).to_pylist()], np.int64)
    time_ms[given] = parsed[back]
    return given[parsed[back] == NO_TIME]


def _iso(text: str) -> int:
    try:
        return iso(text)
    except Invalid:
        return NO_TIME
