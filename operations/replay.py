"""Replay: messages that were refused go through again, after a fix; each at most once, all accounted for."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from operations.progress import Report, Step, silent
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.errors import RefusedError
from runtime.kafka import clients, topics
from runtime.kafka.produce import Deliveries, NewRecord
from runtime.settings import KafkaSettings
from schemas import ipc, raw
from schemas.headers import raw_data
from schemas.partition import partition_of
from schemas.skips import RULE
from schemas.topics import RAW
from schemas.vocabulary import Transport

TABLES: Final = {"dead-letters": "dead_letters", "denied": "denied"}
PAGE: Final = 2_000
RECORD_ROWS: Final = 500
RECORD_BYTES: Final = 1 << 20
"""Payload bytes of one record; telemetry.raw takes 2 MiB."""

_FILTER: Final = """
FROM {table:Identifier}
WHERE received_at >= {since:DateTime64(3)} AND received_at < {until:DateTime64(3)}
    AND startsWith(reason, {reason:String}) AND ({device:String} = '' OR publisher = {device:String})"""
_UNKNOWN: Final = f"(rule = '{RULE}' OR rule IN ('boot', 'seq') AND (boot IS NULL OR seq IS NULL))"
_COUNT: Final = f"SELECT rule, count(), countIf({_UNKNOWN}) {_FILTER} GROUP BY rule ORDER BY rule"
_PAGE: Final = f"""
SELECT publisher AS device, topic, payload, content_type, ts, toString(boot) AS boot, toString(seq) AS seq,
    toUnixTimestamp64Milli(received_at) AS received_at,
    raw_epoch, raw_partition, raw_offset, raw_row
{_FILTER} AND NOT ({_UNKNOWN})
    AND (raw_epoch, raw_partition, toInt64(raw_offset), toInt64(raw_row))
        > ({{e:UInt16}}, {{p:UInt16}}, {{o:Int64}}, {{r:Int64}})
ORDER BY raw_epoch, raw_partition, raw_offset, raw_row
LIMIT {{limit:UInt32}}
SETTINGS prefer_column_name_to_alias = 1"""


@dataclass(frozen=True, slots=True)
class Refused:
    """Which refused messages: of a table of TABLES, received in [since, until), with reasons that begin so, of this
    publisher (any where empty)."""

    what: str
    since: datetime
    until: datetime
    reason: str = ""
    device: str = ""

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "table": TABLES[self.what],
            "since": self.since,
            "until": self.until,
            "reason": self.reason,
            "device": self.device,
        }


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """Messages: `found` by the rule that refused them, `left_out` because their bytes (of a record that was
    skipped), their boot or their seq could not be read, and `sent` to telemetry.raw."""

    found: dict[str, int]
    left_out: int
    sent: int


def replay(
    kafka: KafkaSettings,
    clickhouse: ClickHouseSettings,
    wanted: Refused,
    *,
    dry_run: bool = False,
    report: Report = silent,
) -> ReplayResult:
    """Send refused messages through the platform again. Each carries the name of the one it replays, so that the same
    call done twice sends duplicates, which access recognises. With `dry_run` they are counted and nothing is sent.

    `report` is called for each page that was sent. Raises RetryableError when ClickHouse or Kafka is away.
    """
    with ClickHouse(clickhouse) as db:
        counted = db.rows(_COUNT, wanted.parameters)
        sent = 0 if dry_run else send(kafka, pages(db, wanted.parameters), report)
    found = {str(rule): int(count) for rule, count, _ in counted}
    return ReplayResult(found, sum(int(unknown) for _, _, unknown in counted), sent)


def pages(db: ClickHouse, asked: dict[str, Any]) -> Iterator[pa.Table]:
    """The rows asked for, in order of their names, PAGE at a time."""
    last: tuple[int, ...] = (0, 0, -1, -1)
    while True:
        keys = dict(zip("epor", last, strict=True))
        page = pa.Table.from_batches(list(db.batches(_PAGE, asked | keys | {"limit": PAGE})))
        if page.num_rows:
            yield page
        if page.num_rows < PAGE:
            return
        tail = page.slice(page.num_rows - 1).to_pylist()[0]
        last = tuple(tail[key] for key in ("raw_epoch", "raw_partition", "raw_offset", "raw_row"))


def send(kafka: KafkaSettings, found: Iterable[pa.Table], report: Report = silent) -> int:
    """Write pages to telemetry.raw; the number of rows, all of which Kafka has acknowledged. Safe to do again."""
    partitions = topics.facts(kafka, RAW)[RAW].partitions
    sent = 0
    with Deliveries(clients.producer(kafka)) as out:
        for page in found:
            for partition, batch in records(rows(page), partitions):
                headers = raw_data(batch.num_rows, replayed=batch.num_rows)
                out.send(NewRecord(RAW, ipc.encode(batch), partition=partition, headers=headers))
                sent += batch.num_rows
            report(Step("sent again", sent, "messages"))
    return sent


def rows(page: pa.Table) -> pa.RecordBatch:
    """A page as rows of telemetry.raw: the message as it came, with the name of the row it replays."""
    count = page.num_rows
    name = [page.column(key).cast(pa.string()) for key in ("raw_epoch", "raw_partition", "raw_offset", "raw_row")]
    given = {
        "transport": pa.array([Transport.MQTT] * count, pa.uint8()),
        "qos": pa.array([1] * count, pa.uint8()),
        "retain": pa.array([False] * count),
        "replay_of": pc.binary_join_element_wise(*name, "/"),
    }
    columns = [
        given.get(field.name, page.column(field.name) if field.name in page.column_names else None)
        for field in raw.SCHEMA
    ]
    cast = [_column(column).cast(field.type) for column, field in zip(columns, raw.SCHEMA, strict=True)]
    for column, field in zip(cast, raw.SCHEMA, strict=True):
        if column.null_count and not field.nullable:
            raise RefusedError(f"a row to be replayed has no {field.name}: it was stored by an older version")
    return pa.RecordBatch.from_arrays(cast, schema=raw.SCHEMA)


def _column(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def records(batch: pa.RecordBatch, partitions: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(partition, rows) of each record: rows of one partition, few and small enough."""
    devices = batch.column("device").to_pylist()
    sizes = pc.binary_length(batch.column("payload")).to_pylist()
    groups: dict[int, list[int]] = {}
    for row, device in enumerate(devices):
        groups.setdefault(partition_of(device.encode(), partitions), []).append(row)
    for partition, chosen in groups.items():
        for part in _cut(chosen, sizes):
            yield partition, batch.take(pa.array(part))


def _cut(chosen: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    part: list[int] = []
    total = 0
    for row in chosen:
        if part and (len(part) == RECORD_ROWS or total + sizes[row] > RECORD_BYTES):
            yield part
            part, total = [], 0
        part.append(row)
        total += sizes[row]
    if part:
        yield part
