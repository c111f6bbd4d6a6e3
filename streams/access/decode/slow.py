"""The slow path: messages one at a time by the law (formats/), and its readings gathered to columns."""

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from streams.access.decode.columns import Int64
from streams.access.decode.formats import Decode
from streams.access.decode.limits import Invalid
from streams.access.decode.message import Message
from streams.access.decode.names import Names
from streams.access.decode.part import NO_TIME, Part, empty

log = logging.getLogger(__name__)


def one(decode: Decode, payload: bytes, received_ms: int) -> Message:
    """A message by its format. Whatever else than Invalid a decoder raises is a bug; the message then is `internal`."""
    try:
        return decode(payload, received_ms)
    except Invalid:
        raise
    except Exception as error:
        log.error("decoder failed", exc_info=error)
        raise Invalid("internal", f"{type(error).__name__} in {decode.__module__}") from error


def rows(
    wanted: Iterable[tuple[int, Decode, bytes, int]], names: Names, boot: Int64, seq: Int64, dead: dict[int, str]
) -> Part:
    """Messages (row, format, payload, received_ms) to readings. Sets boot and seq of their rows, adds to `dead`."""
    found: list[tuple[Any, ...]] = []
    code = names.code
    for row, decode, payload, received_ms in wanted:
        try:
            message = one(decode, payload, received_ms)
        except Invalid as error:
            boot[row], seq[row], dead[row] = error.boot, error.seq, str(error)
            continue
        boot[row], seq[row] = message.boot, message.seq
        for index, (metric, value, text, time_ms, child) in enumerate(message.readings):
            found.append((row, index, code(metric), NO_TIME if time_ms is None else time_ms, value, text, child))
    return _columns(found) if found else empty()


def _columns(found: list[tuple[Any, ...]]) -> Part:
    row, index, metric, time_ms, value, text, child = zip(*found, strict=True)
    return Part(
        np.array(row, np.int32),
        np.array(index, np.int32),
        np.array(metric, np.int32),
        np.array(time_ms, np.int64),
        np.array(value, np.float64),
        pa.array(text, pa.string()) if any(t is not None for t in text) else None,
        pa.array(child, pa.string()) if any(c is not None for c in child) else None,
    )
