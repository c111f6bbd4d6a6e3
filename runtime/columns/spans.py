"""Arrow strings as numpy: where they lie, and columns made of spans of bytes, without a Python object a string."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from runtime.columns.types import Bool, Bytes, Int64

Positions = npt.NDArray[np.intp] | Int64


def lying(column: Any) -> tuple[Int64, Bytes]:
    """(offsets int64[n + 1], bytes) of a string or binary column; row i is bytes[offsets[i]:offsets[i + 1]]."""
    _, offsets, body = column.buffers()
    found = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    return found, np.zeros(0, np.uint8) if body is None else np.frombuffer(body, np.uint8)


def binary(offsets: Int64, body: bytes) -> Any:
    """The BinaryArray of those bytes."""
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(body)]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


class Strings:
    """The strings body[starts[i]:ends[i]]; spans ascend, do not overlap and hold ASCII."""

    def __init__(self, body: Bytes, starts: Positions, ends: Positions) -> None:
        offsets = np.empty(2 * len(starts), np.int32)
        offsets[0::2], offsets[1::2] = starts, ends
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(body)]
        self._all = pa.Array.from_buffers(pa.string(), 2 * len(starts) - 1, buffers)  # and what lies between, in turn

    def take(self, which: Positions, absent: Bool | None = None) -> Any:
        """These strings, in this order, as a StringArray; null where `absent`. There is at least one string."""
        return self._all.take(pa.array(2 * which, mask=absent))


def milliseconds(column: Any) -> Int64:
    """A timestamp("ms") column without nulls as int64."""
    values: Int64 = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column)]
    return values
