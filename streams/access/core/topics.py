"""The MQTT topics of a batch: telemetry topics of the publisher itself at once, every other one by the grammar."""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runtime.columns.arrays import positions, sizes
from runtime.columns.spans import lying
from runtime.columns.types import Bool, Int32
from schemas.errors import ContractError
from schemas.topics import Uplink, is_name, parse_uplink

_D, _TELEMETRY, _SLASH = pa.scalar("d"), pa.scalar("telemetry"), pa.scalar("/")
_PREFIX_BYTES: Final = len("d//telemetry/")
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
    found = Topics(np.full(len(topics), NO_CHANNEL, np.int32), [])
    channels = _after_prefix(devices, topics)
    own = pc.call_function("binary_join_element_wise", [_D, devices, _TELEMETRY, channels, _SLASH])
    if own.equals(topics):
        _channels(found, slice(None), channels)
    else:
        rows = positions(pc.equal(own, topics).to_numpy(zero_copy_only=False))
        _channels(found, rows, channels.take(pa.array(rows)))
    rest = positions(found.channel == NO_CHANNEL)
    if len(rest):
        _by_grammar(found, devices, topics, rest)
    return found


def _after_prefix(devices: Any, topics: Any) -> Any:
    """Of each topic what stands after as many bytes as d/{device}/telemetry/ has; empty where it is shorter."""
    offsets, body = lying(topics)
    ends = offsets[1:]
    starts = np.minimum(offsets[:-1] + sizes(devices) + _PREFIX_BYTES, ends)
    if not len(starts):
        return pa.array([], pa.string())
    spans = np.empty(2 * len(starts), np.int32)
    spans[0::2], spans[1::2] = starts, ends
    every = pa.Array.from_buffers(pa.string(), 2 * len(starts) - 1, [None, pa.py_buffer(spans), pa.py_buffer(body)])
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
