"""Readings of a batch of telemetry.readings as numpy columns."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.series import NONE, SeriesTable
from runtime.columns.spans import milliseconds
from runtime.columns.types import Bool, Float64, Int32, Int64
from schemas.vocabulary import Verdict

NOT_FINITE: Final = "not_finite"
"""Reason: the value is NaN or infinite."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Accepted numeric readings with a series, in their order. `at`: row of the batch, None: the same."""

    series: Int32
    time_ms: Int64
    received_ms: Int64
    value: Float64
    raw_row: Int32
    reading_index: Int32
    at: Int64 | None = None

    def __len__(self) -> int:
        return len(self.series)


def numeric(batch: Any) -> Int64 | None:
    """Rows that are accepted and have a number; None when all are. Events and texts are nobody's business here."""
    column = batch.column("value")
    wanted: Bool = _fixed(batch.column("verdict"), np.uint8) == Verdict.ACCEPTED
    if column.null_count:
        wanted = wanted & np.asarray(column.is_valid())
    return None if wanted.all() else positions(wanted)


def read(batch: Any, table: SeriesTable) -> tuple[Rows, Counter[str]]:
    """(readings to judge, readings refused by reason). New series get numbers."""
    at = numeric(batch)
    numbered = table.number(batch, at)
    refused = Counter(numbered.refused)
    value = _picked(_fixed(batch.column("value"), np.float64), at)
    good = np.isfinite(value) & (numbered.series != NONE)
    series = numbered.series
    if not good.all():
        refused[NOT_FINITE] += int(np.count_nonzero(~good & (series != NONE)))
        at = positions(good) if at is None else at[good]
        series, value = series[good], value[good]
    return Rows(
        series,
        _picked(milliseconds(batch.column("time")), at),
        _picked(milliseconds(batch.column("received_at")), at),
        value,
        _picked(_fixed(batch.column("raw_row"), np.int32), at),
        _picked(_fixed(batch.column("reading_index"), np.int32), at),
        at,
    ), +refused


def publishers(batch: Any, rows: Rows, table: SeriesTable) -> Any:
    """Device number of each reading's publisher; None where every device publishes for itself."""
    column = batch.column("publisher")
    if column.equals(batch.column("device")):
        return None
    devices = table.devices
    numbers = devices.find(column.dictionary)
    for code in positions(numbers == NONE).tolist():
        word = column.dictionary[code].as_py()
        known = devices.find_one(word)  # it may occur twice
        numbers[code] = devices.add(word) if known == NONE else known
    return numbers[_picked(_fixed(column.indices, np.int32), rows.at)]


def _fixed(column: Any, kind: Any) -> Any:
    """A column of numbers; what stands at nulls is undefined."""
    return np.frombuffer(column.buffers()[1], kind)[column.offset : column.offset + len(column)]


def _picked(column: Any, at: Int64 | None) -> Any:
    return column if at is None else column[at]
