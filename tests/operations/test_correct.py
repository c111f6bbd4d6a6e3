"""Readings that an old decoder got wrong, decoded again while the sink goes on, against real Kafka and ClickHouse."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from confluent_kafka import TopicPartition

from operations.correct import phases
from runtime.clickhouse.client import ClickHouse
from runtime.kafka import clients
from runtime.stage.contract import Record
from schemas import headers, ipc, raw, readings
from schemas.control import POLICY_KEY
from schemas.headers import Provenance, Version
from schemas.topics import RAW, READINGS
from schemas.vocabulary import Kind, Transport
from streams.access.core.state import State
from streams.access.decode import Decoder
from streams.access.policy import check, shipped
from tests.operations.conftest import Command
from tests.operations.flows import findings, ok
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
        found = headers.table(given)
        record = Record(self.partition, self.offset, self.epoch, self.offset, headers.kind_of(found), found, value)
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
    """The same with the values of some raw records mended."""
    mend = {row: (*row[:8], row[8] / 10, *row[9:]) for row in found if row[1] in span and row[8] is not None}
    return Counter({mend.get(row, row): count for row, count in found.items()})


@contextmanager
def a_bad_hour(stand: Stand) -> Iterator[tuple[list[Access], range, list[str]]]:
    """Good, wrong and good again: the writers, the offsets of the wrong records, the options that name their time."""
    parts = [Access(stand, p) for p in range(2)]
    say(parts, 10)
    time.sleep(0.01)
    since, first = datetime.now(UTC), parts[0].offset
    say(parts, 10, wrong=True)
    time.sleep(0.01)
    until, end = datetime.now(UTC), parts[0].offset
    time.sleep(0.01)
    say(parts, 10)
    stand.sink()
    settled(stand, parts)
    yield parts, range(first, end), ["correct", "--from", since.isoformat(), "--to", until.isoformat()]


def test_a_correction_replaces_what_was_wrong_and_nothing_else(
    make_stand: Callable[..., Stand], command: Command
) -> None:
    stand = make_stand(2)
    with a_bad_hour(stand) as (parts, span, words):
        before = held(stand)
        dry = command(stand, *words, "--dry-run")
        ok(dry)
        assert "different: 400 messages with 800 readings" in dry.output and held(stand) == before
        ok(command(stand, *words))
        assert held(stand) == right(before, span) != before
        with database(stand) as db:
            aside = Counter(db.rows(f"SELECT {COLUMNS} FROM readings_superseded"))
            assert aside == Counter({row: n for row, n in before.items() if row[1] in span})
            assert db.rows("SELECT phase, messages, readings FROM corrections ORDER BY at") == [
                (phase, 400, 800) for phase in ("begun", "inserted", "done")
            ]
        again = command(stand, *words)
        assert "the same: 400 messages\ndifferent: 0 messages" in again.output
        say(parts, 5)
        settled(stand, parts)
        assert findings(stand) == []


@pytest.mark.chaos
@pytest.mark.parametrize("step", ["insert", "note", "set_aside"])
def test_a_correction_that_was_cut_off_is_undone_or_finished_by_the_next(
    make_stand: Callable[..., Stand], command: Command, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    stand = make_stand(2)
    with a_bad_hour(stand) as (_parts, span, words):
        before = held(stand)
        whole = getattr(phases, step)

        def cut_off(*given: Any) -> None:
            if step != "note" or given[2] == "inserted":
                if step == "insert":
                    whole(*given)
                raise KeyboardInterrupt
            whole(*given)

        with monkeypatch.context() as cut:
            cut.setattr(phases, step, cut_off)
            assert command(stand, *words).exit_code == 1
        assert held(stand).total() > before.total(), "old and new stand side by side"
        ok(command(stand, *words))
        assert held(stand) == right(before, span)
        assert findings(stand) == []


def test_what_retention_took_cannot_be_corrected(make_stand: Callable[..., Stand], command: Command) -> None:
    stand = make_stand(2)
    with a_bad_hour(stand) as (_parts, span, words):
        admin = clients.admin(stand.kafka_settings)
        for future in admin.delete_records([TopicPartition(RAW, 1, span.start + 2)]).values():
            future.result(10)
        before = held(stand)
        refused = str(command(stand, *words).exception)
        assert f"{RAW}[1]: retention took offsets {span.start} to {span.start + 1}" in refused
        assert held(stand) == before
        assert "is not after" in str(command(stand, "correct", "--from", "1h", "--to", "2h").exception)
