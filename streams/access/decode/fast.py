"""The batch path: plain JSON by skeletons and templates. It only ever says what the law would say, or nothing.

Property, tested: fast(batch) == map(law, batch), bit for bit. Rows that it does not answer are `open` still and go the
slow way, which alone gives reasons.
"""

from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from runtime.columns.spans import Strings, lying
from runtime.columns.types import Bool, Bytes, Float64, Int32, Int64
from streams.access.decode import templates as columns_of
from streams.access.decode import tokens as reader
from streams.access.decode.limits import MAX_WHOLE, Invalid, is_child, iso
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
    offsets, body = lying(payloads)
    rows = np.flatnonzero(open_rows & reader.readable(body, offsets))
    if not len(rows):
        return _NOTHING
    if len(rows) < len(payloads):
        offsets, body = lying(payloads.take(pa.array(rows)))
    body = body[offsets[0] : offsets[-1]]
    found = reader.tokens(body, offsets - offsets[0])
    template = np.where(found.fit, _templates(found, templates), -1)
    known = np.flatnonzero(template >= 0)
    if not len(known):
        return _NOTHING
    return _apply(rows, known, body, found, templates.heads[template[known]], templates.rows)


def _templates(found: Tokens, templates: Templates) -> Int32:
    """The template of each text."""
    encoded = found.skeletons.dictionary_encode()
    codes = encoded.indices.to_numpy()
    counts = np.bincount(codes, minlength=len(encoded.dictionary)).tolist()
    known: Int32 = templates.lookup(encoded.dictionary.to_pylist(), counts)[codes]
    return known


def _apply(rows: Int64, known: Int64, body: Bytes, found: Tokens, heads: Int32, table: Int32) -> Answer:
    """Readings of the texts in `known`, whose templates' heads are given; rows[i] is the row of text i."""
    holes, texts = found.hole[known], found.string[known]
    if (found.hole[known + 1] - holes != heads[:, columns_of.HOLES]).any():
        raise AssertionError("holes of a template")
    if (found.string[known + 1] - texts != heads[:, columns_of.STRINGS]).any():
        raise AssertionError("strings of a template")
    padded = np.append(found.numbers, np.nan)  # index -1: absent
    boot, boot_right = _whole(padded, heads[:, columns_of.BOOT], holes)
    seq, seq_right = _whole(padded, heads[:, columns_of.SEQ], holes)
    part, wrong = _readings(body, found, table, heads, holes, texts, padded)
    right = boot_right & seq_right
    right[wrong] = False
    at = rows[known]
    if not right.all():
        part = part.keep(right[part.row])
        boot, seq = boot[right], seq[right]
    return Answer(part.at(at.astype(np.int32)), at[right], boot, seq)


def _whole(padded: Float64, hole: Int32, first: Any) -> tuple[Int64, Bool]:
    """(boot or seq of each row, -1 when absent; whether it is as limits.whole wants it)."""
    given = hole >= 0
    if not given.any():
        return np.full(len(hole), -1, np.int64), np.ones(len(hole), bool)
    number = np.where(given, padded[np.where(given, hole + first, -1)], -1.0)
    right = ~given | ((number >= 0) & (number < MAX_WHOLE) & (number == np.floor(number)))
    return np.where(right, number, -1.0).astype(np.int64), right


def _readings(
    body: Bytes, found: Tokens, table: Int32, heads: Int32, holes: Any, texts: Any, padded: Float64
) -> tuple[Part, Any]:
    """(all readings, by place in `heads`; places whose times or children the law has to judge)."""
    counts = heads[:, columns_of.COUNT]
    ends = np.cumsum(counts)
    place = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    index = np.arange(ends[-1], dtype=np.int32) - (ends - counts).astype(np.int32)[place]
    entry = table.take(index + heads[:, columns_of.FIRST][place], axis=0).T
    first_hole, first_text = holes[place], texts[place]
    value = _values(padded, entry, first_hole)
    time_ms, wrong = _times(padded, entry[columns_of.TIME], first_hole)
    part = Part(place, index, entry[columns_of.METRIC], time_ms, value)
    if not len(found.starts):
        return part, place[wrong]
    strings = Strings(body, found.starts, found.ends)
    text = _texts(strings, entry[columns_of.TEXT], first_text)
    if text is not None:
        value[entry[columns_of.TEXT] >= 0] = np.nan
    child, children, no_ids = _children(strings, entry[columns_of.CHILD], first_text)
    no_times = _text_times(strings, entry[columns_of.TIME_TEXT], first_text, time_ms)
    wrongs = np.concatenate([wrong, no_ids, no_times])
    return replace(part, text=text, child=child, children=children), place[wrongs]


def _values(padded: Float64, entry: Int32, first: Any) -> Float64:
    hole = entry[columns_of.VALUE]
    given = hole >= 0
    if given.all():
        all_given: Float64 = padded[hole + first]
        return all_given
    return np.where(given, padded[np.where(given, hole + first, -1)], entry[columns_of.CONSTANT])


def _times(padded: Float64, hole: Int32, first: Any) -> tuple[Int64, Any]:
    """(milliseconds, readings whose number is not as limits.moment wants it)."""
    given = hole >= 0
    if not given.any():
        return np.full(len(hole), NO_TIME, np.int64), np.zeros(0, np.int64)
    number = np.where(given, padded[np.where(given, hole + first, -1)], 0.0)
    wrong = (np.abs(number) >= MAX_WHOLE) | (number != np.floor(number))
    number[wrong] = 0.0
    return np.where(given, number.astype(np.int64), NO_TIME), np.flatnonzero(wrong)


def _texts(strings: Strings, string: Int32, first: Any) -> Any:
    """The strings that readings name, as a StringArray; None when no reading names one."""
    given = string >= 0
    if not given.any():
        return None
    return strings.take(np.where(given, string + first, 0), ~given)


def _children(strings: Strings, string: Int32, first: Any) -> tuple[Int32 | None, tuple[str, ...], Int64]:
    """(codes, ids, readings whose child is no device id)."""
    given = np.flatnonzero(string >= 0)
    if not len(given):
        return None, (), given
    encoded = strings.take((string + first)[given]).dictionary_encode()
    children = tuple(encoded.dictionary.to_pylist())
    codes = np.full(len(string), -1, np.int32)
    codes[given] = encoded.indices.to_numpy()
    wrong = np.array([not is_child(name) for name in children] + [False])
    return codes, children, np.flatnonzero(wrong[codes])


def _text_times(strings: Strings, string: Int32, first: Any, time_ms: Int64) -> Any:
    """Fill in times given as ISO 8601; readings where the text is none. Readings of an object share theirs."""
    given = np.flatnonzero(string >= 0)
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
