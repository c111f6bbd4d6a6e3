"""The MQTT topics of a batch: telemetry topics of the publisher itself at once, every other one by the grammar."""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import ContractError
from schemas.topics import Uplink, is_name, parse_uplink
from streams.access.decode.columns import Bool, Bytes, Int32, Int64
from streams.access.decode.spans import lying

_MIDDLE: Final = np.frombuffer(b"/telemetry/", np.uint8)
NO_CHANNEL: Final = -1


@dataclass(frozen=True, slots=True)
class Topics:
    """Of each row `channel`: a code into `words`, NO_CHANNEL when it is no telemetry topic.

    `other` are rows on another branch, `forged` rows whose topic names another device (telemetry or not), `wrong` rows
    whose topic is none, with the reason.
    """

    channel: Int32
    words: list[str]
    other: dict[int, Uplink] = field(default_factory=dict)
    forged: dict[int, Uplink] = field(default_factory=dict)
    wrong: dict[int, str] = field(default_factory=dict)


def parse(devices: Any, topics: Any) -> Topics:
    """`devices`, `topics`: StringArrays without nulls, a row a message."""
    offsets, body = lying(topics)
    slashes = np.flatnonzero(body[offsets[0] : offsets[-1]] == ord("/")) + offsets[0]
    rows, starts, ends = _own_telemetry(offsets, body, slashes)
    first, last = offsets[rows] + 2, starts - len(_MIDDLE)
    own = pc.equal(_segments(body, first, last), devices if len(rows) == len(devices) else devices.take(pa.array(rows)))
    same = own.to_numpy(zero_copy_only=False)
    if not same.all():
        rows, starts, ends = rows[same], starts[same], ends[same]
    found = Topics(np.full(len(topics), NO_CHANNEL, np.int32), [])
    _channels(found, rows, _segments(body, starts, ends))
    rest = np.flatnonzero(found.channel == NO_CHANNEL)
    if len(rest):
        _by_grammar(found, devices, topics, rest)
    return found


def _own_telemetry(offsets: Int64, body: Bytes, slashes: Any) -> tuple[Any, Any, Any]:
    """Rows that read d/…/telemetry/…, and where the last segment begins and ends."""
    before = np.searchsorted(slashes, offsets)
    rows = np.flatnonzero(np.diff(before) == 3)
    one, two, three = (slashes[before[rows] + k] for k in range(3))
    start = offsets[rows]
    right = (one == start + 1) & (body[start] == ord("d")) & (three - two == len(_MIDDLE) - 1)
    right &= three + 1 < offsets[rows + 1]
    rows, two, three = rows[right], two[right], three[right]
    middle = (body[two[:, None] + np.arange(len(_MIDDLE))] == _MIDDLE).all(axis=1)
    return rows[middle], three[middle] + 1, offsets[rows[middle] + 1]


def _segments(body: Bytes, starts: Any, ends: Any) -> Any:
    """The StringArray of body[starts[i]:ends[i]]; the spans ascend and lie apart."""
    if not len(starts):
        return pa.array([], pa.string())
    offsets = np.empty(2 * len(starts), np.int32)
    offsets[0::2], offsets[1::2] = starts, ends
    every = pa.Array.from_buffers(pa.string(), 2 * len(starts) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(body)])
    return every.take(pa.array(np.arange(0, 2 * len(starts), 2)))  # what lies between is left out


def _channels(found: Topics, rows: Any, channels: Any) -> None:
    encoded = channels.dictionary_encode()
    codes: Int32 = encoded.indices.to_numpy()
    words: list[str] = encoded.dictionary.to_pylist()
    right: Bool = np.array([bool(is_name(word)) for word in words], bool)
    if not right.all():
        codes = np.where(right, np.cumsum(right) - 1, NO_CHANNEL).astype(np.int32)[codes]
    found.words.extend(word for word, is_right in zip(words, right.tolist(), strict=True) if is_right)
    found.channel[rows] = codes


def _by_grammar(found: Topics, devices: Any, topics: Any, rows: Any) -> None:
    codes = {word: code for code, word in enumerate(found.words)}
    chosen = pa.array(rows)
    for row, device, topic in zip(
        rows.tolist(), devices.take(chosen).to_pylist(), topics.take(chosen).to_pylist(), strict=True
    ):
        try:
            uplink = parse_uplink(topic)
        except ContractError as error:
            found.wrong[row] = f"topic: {str(error).removeprefix('topic ')}"
            continue
        if uplink.branch == "telemetry":
            code = codes.setdefault(uplink.names[0], len(codes))
            if code == len(found.words):
                found.words.append(uplink.names[0])
            found.channel[row] = code
        else:
            found.other[row] = uplink
        if uplink.device != device:
            found.forged[row] = uplink
