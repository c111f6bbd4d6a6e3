"""Valid records of telemetry.raw and telemetry.readings, made up, with all that must come of them.

A Chain writes one partition as the bridge, the relay and access would: each record of raw is answered by one record of
readings that names it. `expected` then holds what the tables must hold, row for row. `stages`, if it has them, say
something of each answer as the stages behind access would.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from schemas import headers, ipc, raw, readings
from schemas.control import Device, device_key
from schemas.headers import Counts, Provenance, ReadingsHeaders, Version
from schemas.vocabulary import Kind, Transport, Verdict
from tests.support.derived import TOPICS, Stages

DAY_MS = 86_400_000
Headers = list[tuple[str, bytes]]
Row = dict[str, object]
Send = Callable[[str, int, Headers, bytes], None]
"""Topic, partition, headers, value."""


@dataclass
class Expected:
    """What the tables must hold. A reading is (epoch, partition, offset, row, index, device, metric, value), an event
    (epoch, partition, offset, row, device, event)."""

    readings: Counter[tuple[object, ...]] = field(default_factory=Counter)
    denied: Counter[tuple[object, ...]] = field(default_factory=Counter)
    dead_letters: Counter[tuple[object, ...]] = field(default_factory=Counter)
    events: Counter[tuple[object, ...]] = field(default_factory=Counter)
    received: int = 0
    accepted: int = 0
    duplicates: int = 0
    records: int = 0

    def add(self, other: "Expected") -> None:
        for name in ("readings", "denied", "dead_letters", "events"):
            getattr(self, name).update(getattr(other, name))
        for name in ("received", "accepted", "duplicates", "records"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Chain:
    """One partition. `offset` is that of the next record of raw; the partition of both topics must be its own."""

    def __init__(self, send: Send, partition: int, epoch: int = 0, seed: int = 0, offset: int = 0) -> None:
        self.send, self.partition, self.epoch = send, partition, epoch
        self.offset, self.prev = offset, offset - 1
        self.time_ms = 0
        self.expected = Expected()
        self.stages: Stages | None = None
        self.busy_until = -1
        """Offset of the last record that was no tick."""
        self.random = random.Random(seed * 1000 + partition)

    def data(self, messages: int = 20, months: int = 1, platform: int = 0) -> tuple[Headers, bytes]:
        """A data record: about a tenth of the messages denied, a tenth dead, a tenth repeats, and a few accepted ones
        are no telemetry. The platform's rows report connects. Returns the answer."""
        now = int(time.time() * 1000)
        fates = [self.random.choices(list(Verdict)[:4], (7, 1, 1, 1))[0] for _ in range(messages)]
        raw_rows = [self._raw_row(row, now) for row in range(messages)]
        raw_rows += [self._raw_row(messages + i, now) | {"transport": int(Transport.PLATFORM)} for i in range(platform)]
        value = ipc.encode(pa.RecordBatch.from_pylist(raw_rows, schema=raw.SCHEMA))
        self.send("telemetry.raw", self.partition, headers.raw_data(messages + platform, platform), value)
        rows = [r for row, fate in enumerate(fates) for r in self._rows(row, fate, now, months)]
        rows += [self._event(messages + i, now, "connected") for i in range(platform)]
        counts = self._counts(fates, rows)
        return self._answer(Kind.DATA, counts, ipc.encode(pa.RecordBatch.from_pylist(rows, schema=readings.SCHEMA)))

    def tick(self, time_ms: int | None = None) -> tuple[Headers, bytes]:
        self.time_ms = int(time.time() * 1000) if time_ms is None else time_ms
        self.send("telemetry.raw", self.partition, headers.raw_tick(self.time_ms), b"")
        return self._answer(Kind.TICK, Counts(), b"")

    def control_record(self, version: Version, key: str, value: bytes) -> tuple[Headers, bytes]:
        mark = headers.raw_control(version, key)
        self.send("telemetry.raw", self.partition, mark, value)
        return self._answer(Kind.CONTROL, Counts(), value, tuple(h for h in mark if h[0] in ("version", "key")))

    def device(self, version: Version, device: Device) -> tuple[Headers, bytes]:
        return self.control_record(version, device_key(device.id), device.encode(with_token=False))

    def repeat(self, answer: tuple[Headers, bytes]) -> None:
        """Write an answer again, as a zombie of access would."""
        self.send("telemetry.readings", self.partition, *answer)

    def flow(self, records: int, messages: int = 20, ticks: int = 5) -> None:
        """Data records with a tick after every `ticks` and after the last, and a repeat now and then."""
        for i in range(records):
            answer = self.data(messages)
            if self.random.random() < 0.05:
                self.repeat(answer)
            if self.stages and self.random.random() < 0.05:
                self.stages.repeat(self.random.choice(TOPICS))
            if i % ticks == ticks - 1 or i == records - 1:
                self.tick()

    def _answer(
        self, kind: Kind, counts: Counts, value: bytes, mark: Iterable[tuple[str, bytes]] = ()
    ) -> tuple[Headers, bytes]:
        given = ReadingsHeaders(kind, self.time_ms, counts, tuple(mark)).encode()
        given += Provenance(self.epoch, self.offset, self.prev).encode()
        self.send("telemetry.readings", self.partition, given, value)
        self.prev = self.offset
        self.offset += 1
        self.expected.records += 1
        if kind is not Kind.TICK:
            self.busy_until = self.prev
        if self.stages:
            self.stages.take(self.prev, kind, self.time_ms, counts.readings)
        return given, value

    def _raw_row(self, row: int, now: int) -> Row:
        device = self._device(row)
        return {
            "device": device,
            "topic": f"d/{device}/telemetry/climate",
            "payload": b"{}",
            "transport": int(Transport.MQTT),
            "qos": 1,
            "retain": False,
            "received_at": now,
        }

    def _device(self, row: int) -> str:
        return f"dev-{self.partition}-{row % 7}"

    def _rows(self, row: int, fate: Verdict, now: int, months: int) -> list[Row]:
        base: Row = {
            "verdict": int(fate),
            "device": self._device(row),
            "publisher": self._device(row),
            "channel": "climate",
            "quality": 0,
            "received_at": now,
            "boot": 1,
            "seq": self.offset * 1000 + row,
            "raw_row": row,
            "reading_index": 0,
        }
        if fate is Verdict.DUPLICATE:
            return []
        if fate is not Verdict.ACCEPTED:
            return [
                base | {"reason": "json: unexpected end", "topic": "d/x/telemetry/climate", "payload": b"\x00\xff{"}
            ]
        if self.random.random() < 0.1:
            return [self._event(row, now, "event/door")]
        at = now - (row % months) * 31 * DAY_MS
        return [
            base | {"metric": metric, "time": at, "value": row + index / 2, "reading_index": index}
            for index, metric in enumerate(("temperature", "humidity"))
        ]

    def _event(self, row: int, now: int, name: str) -> Row:
        given = {"seq": None} if name == "connected" else {"seq": row, "boot": 1, "payload": b"{}", "time": now}
        return {
            "verdict": int(Verdict.EVENT),
            "device": self._device(row),
            "publisher": self._device(row),
            "metric": name,
            "quality": 0,
            "received_at": now,
            "raw_row": row,
            "reading_index": 0,
            **given,
        }

    def _counts(self, fates: list[Verdict], rows: list[Row]) -> Counts:
        seen, expected = Counter(fates), self.expected
        for r in rows:
            name = (self.epoch, self.partition, self.offset, r["raw_row"], r["reading_index"])
            if r["verdict"] == Verdict.ACCEPTED:
                expected.readings[(*name, r["device"], r["metric"], r["value"])] += 1
            elif r["verdict"] == Verdict.EVENT:
                expected.events[(*name[:4], r["device"], r["metric"])] += 1
            else:
                where = expected.denied if r["verdict"] == Verdict.DENIED else expected.dead_letters
                where[name[:4]] += 1
        expected.received += len(fates)
        expected.accepted += seen[Verdict.ACCEPTED]
        expected.duplicates += seen[Verdict.DUPLICATE]
        return Counts(
            received=len(fates),
            accepted=seen[Verdict.ACCEPTED],
            denied=seen[Verdict.DENIED],
            dead_letters=seen[Verdict.DEAD_LETTER],
            duplicates=seen[Verdict.DUPLICATE],
            readings=sum(r["verdict"] == Verdict.ACCEPTED for r in rows),
            events=sum(r["verdict"] == Verdict.EVENT for r in rows),
        )
