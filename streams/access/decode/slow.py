"""The slow path: messages one at a time by the law (formats/), their readings gathered to columns."""

import logging
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from runtime.columns.types import Int64
from streams.access.decode.formats import Decode
from streams.access.decode.limits import Invalid
from streams.access.decode.message import Reading
from streams.access.decode.names import Names
from streams.access.decode.part import Part, empty

log = logging.getLogger(__name__)


def rows(
    wanted: Iterable[tuple[int, Decode, bytes, int]], names: Names, boot: Int64, seq: Int64, dead: dict[int, str]
) -> Part:
    """Messages (row, format, payload, received_ms) to readings. Sets boot and seq of their rows, adds to `dead`."""
    found: list[Reading] = []
    decoded: list[tuple[int, int, int, int]] = []
    for row, decode, payload, received_ms in wanted:
        try:
            message = decode(payload, received_ms)
        except Invalid as error:
            boot[row], seq[row], dead[row] = error.boot, error.seq, str(error)
        except Exception as error:
            dead[row] = internal(decode, error)
        else:
            decoded.append((row, message.boot, message.seq, len(message.readings)))
            found += message.readings
    if not found:
        return empty()
    at, boots, seqs, counts = np.array(decoded, np.int64).T
    boot[at], seq[at] = boots, seqs
    ends = np.cumsum(counts)
    index = np.arange(len(found)) - np.repeat(ends - counts, counts)
    return _columns(np.repeat(at, counts), index, found, names)


def internal(decode: Decode, error: Exception) -> str:
    """The reason for a message whose decoder has a bug. The message is kept, as every dead letter is."""
    log.error("decoder failed", exc_info=error)
    return f"internal: {type(error).__name__} in {decode.__module__}"


def _columns(row: Int64, index: Int64, found: list[Reading], names: Names) -> Part:
    metric, value, text, time_ms, child = zip(*found, strict=True)
    children = {name: code for code, name in enumerate(dict.fromkeys(c for c in child if c is not None))}
    return Part(
        row.astype(np.int32),
        index.astype(np.int32),
        np.array(names.codes(metric), np.int32),
        np.array(time_ms, np.int64),
        np.array(value, np.float64),
        pa.array(text, pa.string()) if text.count(None) < len(text) else None,
        np.array([-1 if c is None else children[c] for c in child], np.int32) if children else None,
        tuple(children),
    )
