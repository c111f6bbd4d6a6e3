"""Trace: from what is stored back to the bytes that came, with the time at every stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from confluent_kafka import Message

from operations.errors import InvalidArgumentError
from operations.records import row_of
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.errors import MillraceError
from runtime.kafka import topics
from runtime.kafka.log import NEWEST, LogReader
from runtime.settings import KafkaSettings
from schemas import raw
from schemas.errors import ContractError
from schemas.headers import Provenance, table
from schemas.topics import RAW, READINGS, is_device_id

_NAME: Final = "raw_epoch, raw_partition, raw_offset, raw_row"
_NEWEST: Final = f"""
SELECT fate, {_NAME}, at FROM
(
    SELECT 'accepted' AS fate, {_NAME}, time AS at FROM readings
    WHERE device = {{device:String}} AND time <= {{at:DateTime64(3)}}
    ORDER BY time DESC, received_at DESC LIMIT 1
    UNION ALL
    SELECT 'denied', {_NAME}, received_at FROM denied
    WHERE (device = {{device:String}} OR publisher = {{device:String}}) AND received_at <= {{at:DateTime64(3)}}
    ORDER BY received_at DESC LIMIT 1
    UNION ALL
    SELECT 'dead letter', {_NAME}, received_at FROM dead_letters
    WHERE (device = {{device:String}} OR publisher = {{device:String}}) AND received_at <= {{at:DateTime64(3)}}
    ORDER BY received_at DESC LIMIT 1
)
ORDER BY (fate = 'accepted') DESC, at DESC LIMIT 1"""
_WHERE: Final = """
WHERE raw_epoch = {e:UInt16} AND raw_partition = {p:UInt16} AND raw_offset = {o:UInt64} AND raw_row = {r:UInt32}"""
_READINGS: Final = f"""
SELECT device, publisher, channel, metric, value, text, quality, time, received_at, stored_at, boot, seq, replay_of
FROM readings {_WHERE} ORDER BY reading_index"""
_REFUSED: Final = f"""
SELECT device, publisher, reason, received_at, stored_at, boot, seq, replay_of
FROM {{table:Identifier}} {_WHERE}"""
_TABLES: Final = {"denied": "denied", "dead letter": "dead_letters"}
_FAR: Final = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Name:
    """What names a raw row permanently."""

    epoch: int
    partition: int
    offset: int
    row: int

    def __str__(self) -> str:
        return f"{self.epoch}/{self.partition}/{self.offset}/{self.row}"


@dataclass(frozen=True, slots=True)
class Trace:
    """A message from its bytes to what is stored of it.

    `fate` is accepted, denied or dead letter. `times`, UTC, by stage: device (its own clock), received (by the bridge),
    telemetry.raw, telemetry.readings (appended by Kafka), stored (in ClickHouse); None where that is not known any
    more. `message` is the row of telemetry.raw, None where Kafka no longer holds it.
    """

    name: Name
    fate: str
    publisher: str
    times: Mapping[str, datetime | None]
    message: Mapping[str, Any] | None
    readings: Sequence[Mapping[str, Any]]
    channel: str | None = None
    boot: int | None = None
    seq: int | None = None
    replay_of: str | None = None
    reason: str | None = None

    def plain(self) -> dict[str, Any]:
        """For JSON: what is not known of the message is left out."""
        known = {key: value for key in _SHARED if (value := getattr(self, key)) is not None}
        rest = {"times": dict(self.times), "message": self.message, "readings": list(self.readings)}
        return {"name": str(self.name), "fate": self.fate, **known, **rest}


_CLOCKS_MS: Final = 10_000
"""How far the clocks of two brokers may differ: each gives the records that it appends its own time."""
_SHARED: Final = ("publisher", "channel", "boot", "seq", "replay_of", "reason")


def trace(kafka: KafkaSettings, clickhouse: ClickHouseSettings, device: str, at: datetime | None = None) -> Trace:
    """The device's newest message at or before `at` (its own time), or of all; a refused one where it has no readings.

    Raises MillraceError where nothing of it is stored, RetryableError when ClickHouse or Kafka is away.
    """
    if not is_device_id(device):
        raise InvalidArgumentError(f"{device!r} is not a device id: it does not match [a-z0-9-]{{1,64}}")
    with ClickHouse(clickhouse) as db, LogReader(kafka) as reader:
        newest = db.rows(_NEWEST, {"device": device, "at": at or _FAR})
        if not newest:
            raise MillraceError(f"nothing of {device} is stored: no reading, nothing denied, no dead letter")
        fate, *numbers, _ = newest[0]
        name = Name(*numbers)
        stored = _stored(db, str(fate), name)
        message, appended = _original(kafka, reader, name)
        answered = None if appended is None else _answer(reader, name, appended)
    times = {
        "device": stored[0].get("time"),
        "received": stored[0]["received_at"],
        RAW: _time(appended),
        READINGS: _time(answered),
        "stored": stored[0]["stored_at"],
    }
    readings = [_reading(row) for row in stored if "metric" in row]
    about: dict[str, Any] = {key: stored[0].get(key) for key in _SHARED}
    return Trace(name, str(fate), times=times, message=message, readings=readings, **about)


def _stored(db: ClickHouse, fate: str, name: Name) -> list[dict[str, Any]]:
    query = _READINGS if fate == "accepted" else _REFUSED
    keys = {"e": name.epoch, "p": name.partition, "o": name.offset, "r": name.row, "table": _TABLES.get(fate, "")}
    columns = [part.strip() for part in query.partition("SELECT")[2].partition("FROM")[0].split(",")]
    return [dict(zip(columns, map(_utc, row), strict=True)) for row in db.rows(query, keys)]


def _utc(value: Any) -> Any:
    """The client gives times without their zone; all of ours are UTC."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def _reading(row: Mapping[str, Any]) -> dict[str, Any]:
    value = row["value"] if row["text"] is None else row["text"]
    return {"device": row["device"], "metric": row["metric"], "value": value, "time": row["time"]} | (
        {"quality": row["quality"]} if row["quality"] else {}
    )


def _original(kafka: KafkaSettings, reader: LogReader, name: Name) -> tuple[dict[str, Any] | None, int | None]:
    """(the row of telemetry.raw, its append time in ms); nothing where retention or a new topic took it."""
    if topics.facts(kafka, RAW)[RAW].epoch != name.epoch:
        return None, None
    record = reader.record(RAW, name.partition, name.offset)
    if record is None:
        return None, None
    batch = raw.read(table(record.headers()), record.value() or b"")
    if name.row >= batch.num_rows:
        raise ContractError(f"telemetry.raw {name}: its record has {batch.num_rows} rows")
    return row_of(batch.slice(name.row, 1).to_pylist()[0]), _appended(record)


def _answer(reader: LogReader, name: Name, after_ms: int) -> int | None:
    """When access's answer to the raw record was appended, in ms: the first record that comes from it."""
    start = reader.at_time(READINGS, name.partition, after_ms - _CLOCKS_MS)
    for record in reader.records(READINGS, {name.partition: (start, NEWEST)}):
        source = Provenance.parse(table(record.headers()))
        if (source.epoch, source.src) == (name.epoch, name.offset):
            return _appended(record)
        if source.epoch == name.epoch and source.src > name.offset:
            return None
    return None


def _appended(record: Message) -> int:
    time_ms: int = record.timestamp()[1]
    return time_ms


def _time(time_ms: int | None) -> datetime | None:
    return None if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC)
