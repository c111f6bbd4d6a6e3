"""The columns `boot`, `seq` and `ts` of telemetry.raw: texts of user properties to numbers; agreement with payloads."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from runtime.columns.spans import lying
from runtime.columns.types import Bool, Int64
from streams.access.decode.limits import Invalid, moment_text, whole_text
from streams.access.decode.message import NO_TIME

_SURE_DIGITS: Final = 15
"""So many digits are below 2^53 without looking."""


class Given(NamedTuple):
    """Of each row: boot and seq, -1 when absent; time_ms, NO_TIME when absent; None for what is absent everywhere.
    `right`: whether it is wanted and right. `dead` are wanted rows that are not right."""

    boot: Int64 | None
    seq: Int64 | None
    time_ms: Int64 | None
    right: Bool
    dead: dict[int, str]


def read(batch: pa.RecordBatch, wanted: Bool) -> Given:
    """The properties of all rows, wanted or not."""
    dead: dict[int, str] = {}
    boot = _given(batch.column("boot"), lambda text: whole_text(text, "boot"), -1, dead)
    seq = _given(batch.column("seq"), lambda text: whole_text(text, "seq"), -1, dead)
    time_ms = _given(batch.column("ts"), moment_text, NO_TIME, dead)
    if not dead:
        return Given(boot, seq, time_ms, wanted, dead)
    right = wanted.copy()
    right[list(dead)] = False
    return Given(boot, seq, time_ms, right, {row: reason for row, reason in dead.items() if wanted[row]})


def _given(column: Any, parse: Callable[[str], int], absent: int, dead: dict[int, str]) -> Int64 | None:
    return None if column.null_count == len(column) else numbers(column, parse, absent, dead)


def numbers(column: Any, parse: Callable[[str], int], absent: int, dead: dict[int, str]) -> Int64:
    """A string column as int64, `absent` where null. Rows that `parse` refuses are added to `dead`.

    `parse` is the law; a column of nothing but nulls and plain digits is cast at once.
    """
    out = np.full(len(column), absent, np.int64)
    if column.null_count == len(column):
        return out
    if _plain(column):
        given = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        out[given] = column.drop_null().cast(pa.int64()).to_numpy()
        return out
    for row, text in enumerate(column.to_pylist()):
        if text is not None:
            try:
                out[row] = parse(text)
            except Invalid as error:
                dead.setdefault(row, str(error))
    return out


def _plain(column: Any) -> bool:
    """Whether every string is 1 to 15 digits. Bytes under a null count, too: then the slow path looks."""
    offsets, body = lying(column)
    sizes = np.diff(offsets)
    if column.null_count:
        sizes = sizes[column.is_valid().to_numpy(zero_copy_only=False)]
    return bool(((body[offsets[0] : offsets[-1]] - 48) <= 9).all() and sizes.min() >= 1 and sizes.max() <= _SURE_DIGITS)


def agree(rule: str, properties: Int64 | None, payload: Int64, dead: dict[int, str]) -> Int64:
    """The number of each row: whichever of the two is given. Rows where both are and differ become dead."""
    if properties is None:
        return payload
    differ = (properties >= 0) & (payload >= 0) & (properties != payload)
    for row in np.flatnonzero(differ).tolist():
        dead.setdefault(row, f"{rule}: property says {properties[row]}, payload {payload[row]}")
    return np.where(properties >= 0, properties, payload)
