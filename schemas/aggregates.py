"""`telemetry.aggregates`: partial aggregates of event-time tumbling windows, one record for each tick and more where
there is more to say than fits.

Partials of a window are disjoint; the reader merges them: count, sum, sum_squares and sketch add, min and max are the
least and the greatest, first and last those of the least first_time and the greatest last_time; moments by

    mean = Σ count·mean / Σ count        m2 = Σ m2 + Σ count·(mean of the partial - mean)²

with sums over the partials (Chan, Golub, LeVeque 1979). The variance is m2 / count.

Headers: rows, and of everything since the writer's record before (COUNTS)
    readings   accepted readings of telemetry.readings: readings = folded + texts + refused
    folded     put into windows
    texts      text readings, which have no number
    refused    readings whose series was refused (its device has too many, or the partition), or that are at fault
    emitted    sum of `count` over the rows of this record with scope DEVICE
    open       readings in windows not written yet: open = the record before's open + folded - emitted

Version 2; version 1 had no moments, `read` computes them where it can.
    scope          DEVICE, or the name of the registry's field or label that groups: role, site, model, firmware …
    device         device id; for groups the value of that field or label
    channel        as in readings
    metric         as in readings
    window_start   begin of the window, a multiple of window_ms since 1970
    window_ms      its length
    part           vocabulary.Part
    count          readings in this partial
    sum, sum_squares
    mean, m2       mean, and sum of squared deviations from it; m2 is NaN where it is not known (see `moments`) or not
                   finite
    min, max
    first, last    values of the earliest and the latest reading by time; of equal times the first and the last to come
    first_time, last_time
    sketch_buckets, sketch_counts   the quantile sketch (schemas/sketch.py), buckets ascending; empty when it is off
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from schemas import ipc

NAME: Final = "telemetry.aggregates"
VERSION: Final = 2
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
        pa.field("mean", pa.float64(), nullable=False),
        pa.field("m2", pa.float64(), nullable=False),
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
    batch = ipc.read(found, value, SCHEMA, NAME, VERSION)
    return _with_moments(batch) if batch.column("m2").null_count else batch


def _with_moments(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = {name: batch.column(name) for name in SCHEMA.names}
    sums = {name: columns[name].to_numpy() for name in ("count", "sum", "sum_squares", "min", "max")}
    columns |= {name: pa.array(values) for name, values in moments(**sums).items()}
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=SCHEMA)


def moments(count: Any, sum: Any, sum_squares: Any, min: Any, max: Any) -> dict[str, Any]:
    """Columns mean and m2 of partials of which sums about zero are known, as arrays of one length.

    m2 is NaN where the sums have not four digits of it: each square was rounded to 2^-53 of its size, so that values
    that are large against their spread leave nothing of the difference.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean = sum / count
        m2 = sum_squares - sum * mean
        m2 = np.where(m2 >= LEAST_SHARE * count * sum_squares, m2, np.nan)
        m2 = np.where((min == max) & np.isfinite(min), 0.0, m2)
    return {"mean": mean, "m2": m2}


LEAST_SHARE: Final = 1e-11
"""Of sum_squares, for each reading: a smaller m2 has less than four digits."""
