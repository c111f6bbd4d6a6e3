"""Records for the aggregate stage, its answers as rows, and random streams of them."""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from runtime.stage.contract import Output, Record
from schemas import aggregates, headers, ipc, readings
from schemas.control import Device, device_key, settings_key
from schemas.headers import Counts, ReadingsHeaders, Version
from schemas.vocabulary import Kind, Verdict
from streams.aggregate.core.stage import AggregateStage
from streams.aggregate.core.state import State
from streams.aggregate.windowing import Windowing

NOW_MS = 1_790_000_040_000
"""Begin of a minute."""
MINUTE_MS = 60_000
Row = dict[str, Any]


def reading(
    device: str, value: float | str | None, time_ms: int = NOW_MS, metric: str = "temperature", **more: Any
) -> Row:
    """An accepted reading; a value that is a string is a text reading."""
    number = None if isinstance(value, str) else value
    text = value if isinstance(value, str) else None
    row = {"device": device, "channel": "climate", "metric": metric, "time": time_ms, "value": number, "text": text}
    return row | {"verdict": int(Verdict.ACCEPTED)} | more


def data(offset: int, rows: Iterable[Row], time_ms: int = 0) -> Record:
    found = list(rows)
    common = {"quality": 0, "received_at": NOW_MS, "raw_row": 0, "reading_index": 0}
    filled = [{"publisher": row["device"]} | common | row for row in found]
    columns = [pa.array([row.get(field.name) for row in filled], _plain(field.type)) for field in readings.SCHEMA]
    columns = [
        column.dictionary_encode() if field.type.equals(readings.DICTIONARY) else column
        for field, column in zip(readings.SCHEMA, columns, strict=True)
    ]
    batch = pa.RecordBatch.from_arrays(columns, schema=readings.SCHEMA)
    counts = Counts(readings=sum(row["verdict"] == Verdict.ACCEPTED for row in found))
    given = ReadingsHeaders(Kind.DATA, time_ms, counts).encode()
    return Record(0, offset, 0, offset, Kind.DATA, dict(given), ipc.encode(batch))


def _plain(kind: Any) -> Any:
    return pa.string() if kind.equals(readings.DICTIONARY) else kind


def tick(offset: int, time_ms: int) -> Record:
    return Record(0, offset, 0, offset, Kind.TICK, dict(ReadingsHeaders(Kind.TICK, time_ms).encode()), b"")


def control(offset: int, key: str, value: bytes, version: Version | None = None) -> Record:
    mark = headers.raw_control(version or Version(0, offset), key)
    given = ReadingsHeaders(Kind.CONTROL, 0, control=tuple(h for h in mark if h[0] in ("version", "key"))).encode()
    return Record(0, offset, 0, offset, Kind.CONTROL, dict(given), value)


def registered(offset: int, device: Device) -> Record:
    return control(offset, device_key(device.id), device.encode(with_token=False))


def settings(offset: int, found: Windowing) -> Record:
    return control(offset, settings_key("aggregate"), found.encode())


def rows_of(outputs: Iterable[Output]) -> list[Row]:
    """The rows of what was written, times as ms."""
    found: list[Row] = []
    for output in outputs:
        if output.value:
            batch = aggregates.read(dict(output.headers), output.value)
            batch.validate(full=True)
            found += pa.table(batch.columns, schema=batch.schema).cast(_WITHOUT_TIMES).to_pylist()
    return found


_WITHOUT_TIMES = pa.schema(
    [
        pa.field(f.name, pa.int64() if pa.types.is_timestamp(f.type) else f.type, nullable=f.nullable)
        for f in aggregates.SCHEMA
    ]
)


def counts_of(outputs: Iterable[Output]) -> dict[str, int]:
    """The counts in the headers of the one record that was written."""
    (output,) = outputs
    found = dict(output.headers)
    return {name: headers.number(found, name) for name in ("rows", *aggregates.COUNTS)}


@dataclass
class Scenario:
    """A random stream of records. `rows` are the rows of all data records so far."""

    seed: int
    devices: int = 6
    wild: bool = True

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.offset, self.time_ms = 0, NOW_MS
        self.rows: list[Row] = []

    def record(self) -> Record:
        self.offset += 1
        kind = self.random.choices(("data", "tick", "device", "settings"), (12, 8, 2, 1 if self.wild else 0))[0]
        if kind == "data":
            rows = [self.row() for _ in range(self.random.choice((0, 1, 5, 30)))]
            self.rows += rows
            return data(self.offset, rows)
        if kind == "tick":
            self.time_ms += self.random.choice((0, 1_000, 1_000, 7_000, 40_000))
            return tick(self.offset, self.time_ms - self.random.choice((0, 0, 0, 5_000)))
        if kind == "device":
            labels = {"site": self.random.choice("ab"), "firmware": self.random.choice("123")}
            return registered(self.offset, Device(self.device(), self.random.choice(("meter", "motor")), labels=labels))
        return self.settings()

    def settings(self) -> Record:
        r = self.random
        if r.random() < 0.2:
            return control(self.offset, settings_key("aggregate"), r.choice((b"{", b'{"window_s":7}', b"\xff", b"")))
        window_s, grace_s, late_s = r.choice((10, 60, 60)), r.choice((0, 5)), r.choice((1, 10))
        groups = r.choice(((), ("site",), ("role", "site", "nothing")))
        return settings(
            self.offset, Windowing(window_s, grace_s, late_s, r.choice((None, None, 15)), r.random() < 0.8, groups)
        )

    def device(self) -> str:
        return f"device-{self.random.randrange(self.devices)}"

    def row(self) -> Row:
        r = self.random
        around = r.choice((0, 0, 0, -30_000, -600_000, 90_000, 86_400_000, -400 * 86_400_000))
        at = self.time_ms + around + r.randrange(-5_000, 5_000)
        row = reading(self.device(), self.value(), at, r.choice(("temperature", "humidity", "µ")))
        if r.random() < 0.1:
            verdict = r.choice((Verdict.DENIED, Verdict.DEAD_LETTER, Verdict.EVENT))
            return row | {"verdict": int(verdict), "channel": None, "metric": None, "value": None, "text": None}
        return row

    def value(self) -> float | str | None:
        r = self.random
        if self.wild and r.random() < 0.1:
            return r.choice(("on", None, math.nan, math.inf, -math.inf, 1e300, -1e300, 5e-324, 0.0, -0.0))
        return r.choice((r.gauss(20, 5), float(r.randrange(3)), -r.random()))


def fresh() -> State:
    return AggregateStage().create(0)


def ended(state: State, offset: int, last_ms: int) -> list[Row]:
    """Ticks until everything is written."""
    found: list[Row] = []
    for step in range(300):
        found += rows_of(state.apply(tick(offset + step, last_ms + step * 20_000)))
        if not state.open:
            return found
    raise AssertionError("windows stay open")
