"""`telemetry.aggregates`: partial aggregates of event-time tumbling windows, one record for each tick and more where
there is more to say than fits.

Partials of a window are disjoint; the reader adds them up: count, sum, sum_squares and sketch add, min and max are the
least and the greatest, first and last those of the least first_time and the greatest last_time.

Headers: rows, and of everything since the writer's record before (COUNTS)
    readings   accepted readings of telemetry.readings: readings = folded + texts + refused
    folded     put into windows
    texts      text readings, which have no number
    refused    readings whose series was refused (its device has too many, or the partition), or that are at fault
    emitted    sum of `count` over the rows of this record with scope DEVICE
    open       readings in windows not written yet: open = the record before's open + folded - emitted

Version 1.
    scope          DEVICE, or the name of the registry's field or label that groups: role, site, model, firmware …
    device         device id; for groups the value of that field or label
    channel        as in readings
    metric         as in readings
    window_start   begin of the window, a multiple of window_ms since 1970
    window_ms      its length
    part           vocabulary.Part
    count          readings in this partial
    sum, sum_squares, min, max
    first, last    values of the earliest and the latest reading by time; of equal times the first and the last to come
    first_time, last_time
    sketch_buckets, sketch_counts   the quantile sketch (schemas/sketch.py), buckets ascending; empty when it is off
"""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from schemas import ipc

NAME: Final = "telemetry.aggregates"
VERSION: Final = 1
DEVICE: Final = "device"
COUNTS: Final = ("readings", "folded", "texts", "refused", "emitted", "open")

_WORD: Final = pa.dictionary(pa.int32(), pa.string())
_MS: Final = pa.timestamp("ms", "UTC")

SCHEMA: Final = pa.schema(
    [
        pa.field("scope", _WORD, nullable=False),
        pa.field("device", _WORD, nullable=False),
        pa.field("channel", _WORD, nullable=False),
        pa.field("metric", _WORD, nullable=False),
        pa.field("window_start", _MS, nullable=False),
        pa.field("window_ms", pa.int32(), nullable=False),
        pa.field("part", pa.uint8(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("sum", pa.float64(), nullable=False),
        pa.field("sum_squares", pa.float64(), nullable=False),
        pa.field("min", pa.float64(), nullable=False),
        pa.field("max", pa.float64(), nullable=False),
        pa.field("first", pa.float64(), nullable=False),
        pa.field("last", pa.float64(), nullable=False),
        pa.field("first_time", _MS, nullable=False),
        pa.field("last_time", _MS, nullable=False),
        pa.field("sketch_buckets", pa.list_(pa.int32()), nullable=False),
        pa.field("sketch_counts", pa.list_(pa.int64()), nullable=False),
    ]
)


def read(found: Mapping[str, bytes], value: bytes) -> pa.RecordBatch:
    """The batch of a record with rows, of any version up to VERSION; see schemas.ipc.read for what it raises."""
    return ipc.read(found, value, SCHEMA, NAME, VERSION)
