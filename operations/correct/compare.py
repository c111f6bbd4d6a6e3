"""Which readings would change: a hash for each message, of what is stored and of what access makes of it today."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
from clickhouse_connect.driver.external import ExternalData

from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.errors import translated

MESSAGE: Final = "raw_epoch, raw_partition, raw_offset, raw_row"
WHOLE: Final = {"wait_end_of_query": 1}
"""An error is then reported as one, also when it occurs after the first rows."""
_CONTENT: Final = (
    "device, channel, metric, time, value, text, quality, received_at, boot, seq, publisher, replay_of, reading_index"
)
COLUMNS: Final = f"{MESSAGE}, {_CONTENT}"
_HASHES: Final = f"SELECT {MESSAGE}, count() AS n, sum(cityHash64(tuple({_CONTENT}))) AS hash FROM {{}}"
_TYPES: Final = {
    "raw_epoch": "UInt16",
    "raw_partition": "UInt16",
    "raw_offset": "UInt64",
    "raw_row": "UInt32",
    "n": "UInt64",
    "hash": "UInt64",
}
HASHES: Final = pa.schema([(name, pa.type_for_alias(kind.lower())) for name, kind in _TYPES.items()])
"""Of `hashes_of`."""


@dataclass(frozen=True, slots=True)
class Span:
    """Raw records `first` to `last` of a partition."""

    epoch: int
    partition: int
    first: int
    last: int

    @property
    def condition(self) -> str:
        return (
            f"(raw_epoch = {self.epoch} AND raw_partition = {self.partition}"
            f" AND raw_offset BETWEEN {self.first} AND {self.last})"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Messages: the `same`; `changed`, which hold `readings`; `recounted`, which would have another number of readings;
    `refused`, which access would not accept today."""

    same: int = 0
    changed: int = 0
    readings: int = 0
    recounted: int = 0
    refused: int = 0

    def __add__(self, other: "Comparison") -> "Comparison":
        return Comparison(
            self.same + other.same,
            self.changed + other.changed,
            self.readings + other.readings,
            self.recounted + other.recounted,
            self.refused + other.refused,
        )


def spans(db: ClickHouse, epoch: int, since: datetime, until: datetime) -> list[Span]:
    """What Kafka appended in that time, as far as the tables hold all of it."""
    found = db.rows(
        "SELECT r.raw_partition, min(r.raw_offset), least(max(r.raw_offset), any(f.last)) FROM ledger_received AS r"
        " JOIN (SELECT raw_partition, max(raw_offset) AS last FROM ledger_facts WHERE raw_epoch = {epoch:UInt16}"
        " GROUP BY raw_partition) AS f ON f.raw_partition = r.raw_partition"
        " WHERE r.raw_epoch = {epoch:UInt16} AND r.append_time >= {since:DateTime64(3)}"
        " AND r.append_time < {until:DateTime64(3)} GROUP BY r.raw_partition ORDER BY r.raw_partition",
        {"epoch": epoch, "since": since, "until": until},
    )
    return [Span(epoch, partition, first, last) for partition, first, last in found if last >= first]


def hashes(table: str, where: str = "true") -> str:
    """The query for a hash a message."""
    return f"{_HASHES.format(table)} WHERE {where} GROUP BY {MESSAGE}"


def hashes_of(db: ClickHouse, rows: pa.Table, types: dict[str, str]) -> pa.Table:
    """The same of rows that no table holds: they travel with the query. `types`: of the columns of readings."""
    given = external("incoming", rows, types)
    with translated("hash what was decoded again"):
        found: pa.Table = db.client.query_arrow(hashes("incoming"), external_data=given, settings=WHOLE)
    return found


def compare(db: ClickHouse, stored: str, fresh: str, travels: pa.Table | None = None) -> Comparison:
    """Queries of hashes against each other. `travels`: rows of the table `fresh`, which is sent along."""
    given = None if travels is None else external("fresh", travels, _TYPES)
    sql = (
        "SELECT countIf(b.n = a.n AND a.hash = b.hash), countIf(b.n = a.n AND a.hash != b.hash),"
        " sumIf(a.n, b.n = a.n AND a.hash != b.hash), countIf(b.n != a.n AND b.n > 0), countIf(b.n = 0)"
        f" FROM ({stored}) AS a LEFT JOIN ({fresh}) AS b USING ({MESSAGE})"
    )
    with translated("compare with what is stored"):
        return Comparison(*map(int, db.client.query(sql, external_data=given, settings=WHOLE).result_rows[0]))


def external(name: str, rows: pa.Table, types: dict[str, str]) -> Any:
    """A table that travels with one request and exists for as long."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    structure = [f"{column} {types[column]}" for column in rows.column_names]
    return ExternalData(file_name=name, data=sink.getvalue().to_pybytes(), fmt="ArrowStream", structure=structure)


def column_types(db: ClickHouse, table: str) -> dict[str, str]:
    found = db.rows(
        "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String}",
        {"database": db.database, "table": table},
    )
    return {str(name): str(kind) for name, kind in found}


def within(wanted: list[Span]) -> str:
    return f"({' OR '.join(span.condition for span in wanted)})"
