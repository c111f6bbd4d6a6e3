"""Rows on their way into a table: what identifies them, the token of their insert, and where inserts are cut."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from sinks.core.flow import Range
from sinks.core.records import Entry

MAX_MONTHS: Final = 50
"""Monthly partitions that one insert may touch; ClickHouse refuses more than 100."""
MAX_ROWS: Final = 500_000
"""Rows of a piece: well below the block that ClickHouse writes whole."""

RECORD: Final = ("raw_epoch", "raw_partition", "raw_offset")
NAMES: Final[dict[str, tuple[str, ...]]] = {
    "readings": (*RECORD, "raw_row", "reading_index"),
    "denied": (*RECORD, "raw_row"),
    "dead_letters": (*RECORD, "raw_row"),
    "events": (*RECORD, "raw_row"),
    "policies": RECORD,
    "devices": RECORD,
    "stage_settings": RECORD,
    "incident_marks": RECORD,
    "aggregates_1m": (*RECORD, "row"),
    "group_aggregates_1m": (*RECORD, "row"),
    "anomalies": (*RECORD, "row"),
    "incidents": (*RECORD, "row"),
    "presence": (*RECORD, "row"),
    "presence_newest": (*RECORD, "row"),
    "ledger_received": RECORD,
    "ledger_facts": RECORD,
    "ledger_derived": (*RECORD, "topic"),
}
"""The columns that identify a row, by table. They never change."""
_MONTHS: Final = {"readings": "time", "aggregates_1m": "window_start", "group_aggregates_1m": "window_start"}
"""Tables whose monthly partitions go by what devices say, and the column."""
_MS: Final = pa.timestamp("ms", "UTC")


@dataclass(frozen=True, slots=True)
class Insert:
    """Rows for one table in one statement. `token` names them: the same range always makes the same."""

    table: str
    rows: pa.Table
    token: str

    @property
    def names(self) -> tuple[str, ...]:
        return NAMES[self.table]


def inserts(part: Range, table: str, rows: pa.Table | None) -> Iterator[Insert]:
    """The rows of a range for one table, cut where they must be; nothing where there are none."""
    if rows is not None:
        for piece, some in enumerate(pieces(rows, _MONTHS.get(table))):
            yield Insert(table, some, token(part, table, piece))


def token(part: Range, table: str, piece: int) -> str:
    """The name of an insert. The rule is in it: another cut that begins at the same offset holds other rows."""
    return f"{table}/{part.topic}/{part.epoch}/{part.partition}/{part.first}/{part.rule.encode()}/{piece}"


def pieces(rows: pa.Table, time: str | None) -> Iterator[pa.Table]:
    """Rows in pieces that touch at most MAX_MONTHS months of column `time` and hold at most MAX_ROWS rows."""
    for some in _by_months(rows, time) if time else (rows,):
        for first in range(0, some.num_rows, MAX_ROWS):
            yield some if some.num_rows <= MAX_ROWS else some.slice(first, MAX_ROWS)


def _by_months(rows: pa.Table, time: str) -> Iterator[pa.Table]:
    stamps = rows[time].to_numpy().astype("datetime64[ms]")
    months = stamps.astype("datetime64[M]").astype(np.int64)
    if not len(months) or months.max() - months.min() < MAX_MONTHS:
        yield rows
        return
    distinct = np.unique(months)
    for first in range(0, len(distinct), MAX_MONTHS):
        yield rows.filter(pa.array(np.isin(months, distinct[first : first + MAX_MONTHS])))


Opened = Sequence[tuple[Entry, pa.RecordBatch]]
"""Records that hold rows, and these."""


def merge(part: Range, opened: Opened, columns: Sequence[str]) -> pa.Table | None:
    """The batches one below the other, with the name of each row's raw record. None where there is no row."""
    if not sum(batch.num_rows for _, batch in opened):
        return None
    rows = pa.Table.from_batches([batch.select(columns) for _, batch in opened])
    rows = rows.unify_dictionaries().combine_chunks()
    partitions = np.full(rows.num_rows, part.partition, np.uint16)
    names = (
        spread(opened, np.array([e.origin.epoch for e, _ in opened], np.uint16)),
        pa.array(partitions),
        spread(opened, np.array([e.origin.src for e, _ in opened], np.uint64)),
    )
    for name, values in zip(RECORD, names, strict=True):
        rows = rows.append_column(name, values)
    return rows


def spread(opened: Opened, values: "np.ndarray[tuple[int], np.dtype[np.generic]]") -> pa.Array:
    """A value a record, repeated for each of its rows."""
    return pa.array(np.repeat(values, [batch.num_rows for _, batch in opened]))


def record_columns(part: Range) -> dict[str, pa.Array]:
    """The name of each record of a range: columns of the ledger's tables."""
    return {
        "raw_epoch": pa.array([e.origin.epoch for e in part.entries], pa.uint16()),
        "raw_partition": pa.array([part.partition] * len(part.entries), pa.uint16()),
        "raw_offset": pa.array([e.origin.src for e in part.entries], pa.uint64()),
    }


def times(values_ms: Sequence[int]) -> pa.Array:
    return pa.array(values_ms, pa.int64()).cast(_MS)
