"""Arrow IPC stream of a gateway: `application/vnd.apache.arrow.stream`, one message of up to 10,000 readings.

Columns, by name, in any order:
    metric   text, not null
    value    number or boolean, and/or
    text     text; of the two exactly one is given in each row, or none, and then the row says nothing
    device   text: the child; null for the gateway itself. Optional
    time     timestamp, or whole milliseconds; null for the message's time. Optional
Text may be dictionary-encoded. Any other column is refused, so that nothing is dropped unseen. Compressed buffers are
refused, too: their size is only known once they have filled the memory; a transport may compress the whole.
"""

import math
from typing import Any, Final

import pyarrow as pa
import pyarrow.types as kinds

from schemas.stamps import MAX_WHOLE
from streams.access.decode.formats.arrow_framing import is_compressed
from streams.access.decode.limits import MAX_MESSAGE_READINGS, Invalid, is_child, is_metric, number, shown
from streams.access.decode.message import NO_TIME, Message, Reading

_COLUMNS: Final = ("metric", "value", "text", "device", "time")
_TO_MS: Final = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}
_ERRORS: Final = (pa.ArrowException, OSError, EOFError, MemoryError, UnicodeDecodeError)
"""What pyarrow raises for bytes that are no stream; ArrowInvalid is a ValueError and an ArrowException."""


def decode(payload: bytes, received_ms: int) -> Message:
    try:
        columns = _columns(payload)
    except _ERRORS as error:
        raise Invalid("arrow", str(error).splitlines()[0][:120] if str(error) else type(error).__name__) from None
    out = [reading for row in zip(*columns, strict=True) if (reading := _reading(*row)) is not None]
    if not out:
        raise Invalid("shape", "no reading in it")
    return Message(-1, -1, out)


def _columns(payload: bytes) -> list[list[Any]]:
    """The columns as lists, in the order of _COLUMNS; those that are not there are all None."""
    if is_compressed(payload):
        raise Invalid("arrow", "compressed buffers are not accepted; compress the message instead")
    with pa.ipc.open_stream(payload) as reader:
        _check(reader.schema)
        batches: list[pa.RecordBatch] = []
        rows = 0
        for batch in reader:
            rows += batch.num_rows
            if rows > MAX_MESSAGE_READINGS:
                raise Invalid("shape", f"more than {MAX_MESSAGE_READINGS} readings in a message")
            batch.validate(full=True)
            batches.append(batch)
        table = pa.Table.from_batches(batches, reader.schema)
    return [_values(table, name) for name in _COLUMNS]


def _check(schema: pa.Schema) -> None:
    """Names and types of the columns."""
    if len(set(schema.names)) < len(schema.names):
        raise Invalid("shape", "duplicate column")
    for field in schema:
        if field.name not in _COLUMNS:
            raise Invalid("shape", f"column {shown(field.name)} is not known; known are {', '.join(_COLUMNS)}")
        if not _fits(field.name, field.type):
            raise Invalid("shape", f"column {field.name} has the type {shown(str(field.type))}")
    if "metric" not in schema.names or not {"value", "text"} & set(schema.names):
        raise Invalid("shape", "a column metric and one of value and text are needed")


def _fits(name: str, kind: Any) -> bool:
    if name == "time":
        return bool(kinds.is_timestamp(kind) or kinds.is_int64(kind))
    if name == "value":
        return bool(kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind))
    if kinds.is_dictionary(kind):
        kind = kind.value_type
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind))


def _values(table: pa.Table, name: str) -> list[Any]:
    if name not in table.column_names:
        return [None] * table.num_rows
    column = table.column(name)
    if not kinds.is_timestamp(column.type):
        found: list[Any] = column.to_pylist()
        return found
    times = column.cast(pa.int64()).to_pylist()
    up, down = _TO_MS[column.type.unit]
    return [None if time is None else time * up // down for time in times]


def _reading(metric: Any, value: Any, text: Any, device: Any, time_ms: Any) -> Reading | None:
    if type(metric) is not str or not is_metric(metric):
        raise Invalid("metric_name", f"{shown(metric)} does not match [A-Za-z0-9_.-]{{1,64}}")
    if device is not None and not is_child(device):
        raise Invalid("device", f"{shown(device)} is not a valid device id")
    if time_ms is not None and abs(time_ms) >= MAX_WHOLE:
        raise Invalid("ts", f"{shown(time_ms)} ms is beyond 2^53")
    at = NO_TIME if time_ms is None else time_ms
    if value is not None and text is not None:
        raise Invalid("shape", f"{metric} has both a value and a text")
    if text is not None:
        return metric, math.nan, text, at, device
    return None if value is None else (metric, number(value, metric), None, at, device)
