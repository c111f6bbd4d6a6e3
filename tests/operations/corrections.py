"""An hour in which a policy was wrong, and what is held after it was corrected."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from operations import stages
from runtime.clickhouse.client import ClickHouse
from runtime.stage.contract import Record
from schemas import headers, ipc, raw, readings
from schemas.control import POLICY_KEY
from schemas.headers import Provenance, Version
from schemas.topics import RAW, READINGS
from schemas.vocabulary import Kind, Transport
from streams.access.core.stage import AccessStage
from streams.access.core.state import State
from streams.access.decode import Decoder
from streams.access.policy import check, shipped
from tests.sinks.conftest import Stand, eventually

COLUMNS = "raw_partition, raw_offset, raw_row, reading_index, device, channel, metric, time, value, text, seq"


class Access:
    """What the bridge and access write of one partition. `wrong`: the decoder of an old version takes tenths for
    whole ones."""

    def __init__(self, stand: Stand, partition: int) -> None:
        self.stand, self.partition, self.epoch = stand, partition, stand.facts[RAW].epoch
        self.state, self.offset, self.seq, self.wrong = State(Decoder()), 0, 0, False
        policy = check(shipped("loopback"), "loopback.yaml").encode()
        self._send(headers.raw_control(Version(0, 5), POLICY_KEY), policy)

    def _send(self, given: headers.Headers, value: bytes) -> None:
        self.stand.send(RAW, self.partition, list(given), value)
        self.stand.producer.flush()  # an answer is never appended before what it answers
        found = headers.table(given)
        self._answer(Record(self.partition, self.offset, self.epoch, self.offset, headers.kind_of(found), found, value))

    def _answer(self, record: Record) -> None:
        (answer,) = self.state.apply(record)
        told = answer.value
        if self.wrong and record.kind is Kind.DATA:
            told = ipc.encode(_tenfold(readings.read(headers.table(answer.headers), told)))
        provenance = Provenance(self.epoch, self.offset, self.offset - 1).encode()
        self.stand.send(READINGS, self.partition, [*answer.headers, *provenance], told)
        self.offset += 1

    def say(self, messages: int = 20) -> None:
        """A record of good messages, a bad one, and a repeat."""
        now = int(time.time() * 1000)
        rows = [self._row(now, self.seq + n, b'{"temperature": %d.5, "mode": "auto"}' % n) for n in range(messages)]
        self.seq += messages
        rows += [self._row(now, self.seq, b"{"), rows[0]]
        self.seq += 1
        self._data(rows)

    def skip(self, messages: int) -> None:
        """A record that nobody can read and that declares so many messages, skipped by an operator's order."""
        given = headers.raw_data(messages)
        self.stand.send(RAW, self.partition, list(given), b"garbage")
        self.stand.producer.flush()
        stages.skip(self.stand.kafka_settings, "access", self.partition, self.offset, "written by hand")
        record = Record(
            self.partition, self.offset, self.epoch, self.offset, Kind.DATA, headers.table(given), b"garbage"
        )
        self._answer(AccessStage().skipped(record, "written by hand"))
        self.tick()

    def garble(self) -> None:
        """A record of one message that cannot be decoded."""
        self._data([self._row(int(time.time() * 1000), self.seq, b"{")])
        self.seq += 1

    def _data(self, rows: list[dict[str, object]]) -> None:
        value = ipc.encode(pa.RecordBatch.from_pylist(rows, schema=raw.SCHEMA))
        self._send(headers.raw_data(len(rows)), value)
        self.tick()

    def tick(self) -> None:
        self._send(headers.raw_tick(int(time.time() * 1000)), b"")

    def _row(self, now: int, seq: int, payload: bytes) -> dict[str, object]:
        device = f"dev-{self.partition}"
        return {
            "device": device,
            "topic": f"d/{device}/telemetry/climate",
            "payload": payload,
            "transport": int(Transport.MQTT),
            "qos": 1,
            "retain": False,
            "received_at": now,
            "boot": "1",
            "seq": str(seq),
        }


def _tenfold(batch: Any) -> Any:
    at = batch.schema.get_field_index("value")
    columns = batch.columns
    columns[at] = pc.multiply(batch.column("value"), 10.0)
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def say(parts: list[Access], records: int, wrong: bool = False) -> None:
    for part in parts:
        part.wrong = wrong
        for _ in range(records):
            part.say()
    parts[0].stand.producer.flush()


def settled(stand: Stand, parts: list[Access]) -> None:
    goal = {(side, part.partition): part.offset - 1 for part in parts for side in ("facts", "received")}

    def stored() -> bool:
        for part in parts:
            part.tick()
        stand.producer.flush(1)
        found = stand.progress()
        return all(found.get(side, -1) >= offset for side, offset in goal.items())

    eventually(stored, f"all is stored: {goal}")


@contextmanager
def database(stand: Stand) -> Iterator[ClickHouse]:
    db = stand.db()
    try:
        yield db
    finally:
        db.close()


def held(stand: Stand) -> Counter[tuple[Any, ...]]:
    with database(stand) as db:
        return Counter(db.rows(f"SELECT {COLUMNS} FROM readings"))


def right(found: Counter[tuple[Any, ...]], span: range) -> Counter[tuple[Any, ...]]:
    """The same with the values of some raw records corrected."""
    corrected = {row: (*row[:8], row[8] / 10, *row[9:]) for row in found if row[1] in span and row[8] is not None}
    return Counter({corrected.get(row, row): count for row, count in found.items()})


@contextmanager
def a_bad_hour(stand: Stand, skipped: int = 0) -> Iterator[tuple[list[Access], range, list[str]]]:
    """Good, wrong and good again: the writers, the offsets of the wrong records, the options that name their time.

    `skipped`: among the wrong ones, so many messages of a record that an operator skips.
    """
    parts = [Access(stand, p) for p in range(2)]
    say(parts, 10)
    time.sleep(0.01)
    since, first = datetime.now(UTC), parts[0].offset
    say(parts, 10, wrong=True)
    if skipped:
        parts[0].skip(skipped)
        say(parts[1:], 1, wrong=True)
    time.sleep(0.01)
    until, end = datetime.now(UTC), parts[0].offset
    time.sleep(0.01)
    say(parts, 10)
    stand.sink()
    settled(stand, parts)
    yield parts, range(first, end), ["correct", "--from", since.isoformat(), "--to", until.isoformat()]
