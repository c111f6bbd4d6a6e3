"""A batch of telemetry.readings as what is to be folded: accepted readings that have a number."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.spans import milliseconds
from runtime.columns.types import Bool, Float64, Int64
from schemas.vocabulary import Verdict


@dataclass(frozen=True, slots=True)
class Readings:
    """`rows` of the batch (None: all), their `values` and `times` (ms); and how many accepted readings are none of
    them: `texts` are no number, `not_numbers` are NaN, which no codec of ours lets through."""

    rows: Int64 | None
    values: Float64
    times: Int64
    texts: int = 0
    not_numbers: int = 0

    @property
    def accepted(self) -> int:
        return len(self.values) + self.texts + self.not_numbers

    def only(self, kept: Bool) -> "Readings":
        """Those flagged. Counts stay those of the whole batch."""
        rows = positions(kept) if self.rows is None else self.rows[kept]
        return Readings(rows, self.values[kept], self.times[kept], self.texts, self.not_numbers)


def select(batch: Any) -> Readings:
    """What is to be folded of a batch (schemas.readings.SCHEMA)."""
    if not len(batch):
        return Readings(None, np.zeros(0), np.zeros(0, np.int64))
    column = batch.column("value")
    accepted = _fixed(batch.column("verdict"), np.uint8) == Verdict.ACCEPTED
    values, times = _fixed(column, np.float64), milliseconds(batch.column("time"))
    kept = accepted
    if column.null_count:
        kept = accepted & column.is_valid().to_numpy(zero_copy_only=False)
    is_number = kept & (values == values)
    if is_number.all():
        return Readings(None, values, times)
    rows, numbers = positions(is_number), int(kept.sum())
    return Readings(rows, values[rows], times[rows], int(accepted.sum()) - numbers, numbers - len(rows))


def _fixed(column: Any, kind: Any) -> Any:
    """A column of numbers as they lie; what stands under nulls is anything."""
    return np.frombuffer(column.buffers()[1], kind)[column.offset : column.offset + len(column)]
