"""CPU µs a message of decoding payloads to columns: flat, mixed and hostile payloads in records of 50, 250 and 1,000.

The rival is the law itself, a message at a time (orjson and a walk), which is also what the decoder must equal.
Run it alone: `python -m benchmarks.decode`.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pyarrow as pa

from benchmarks.figures import Figure, cpu_s, median_of
from schemas import raw
from streams.access.decode import Decoder
from streams.access.decode.formats import JSON
from streams.access.decode.limits import Invalid

START_MS = 1_763_900_000_000
SIZES = (50, 250, 1000)
MESSAGES = 10_000

Payloads = Callable[[random.Random, int], bytes]


def flat(r: random.Random, n: int) -> bytes:
    """A climate sensor: two metrics, and what names the message."""
    return b'{"ts":%d,"boot":3,"seq":%d,"temperature":%.2f,"humidity":%.1f}' % (
        START_MS + n * 10,
        n,
        r.gauss(21, 3),
        r.gauss(45, 8),
    )


def mixed(r: random.Random, n: int) -> bytes:
    """A dozen shapes of a mixed fleet; one message in two hundred is broken."""
    if r.random() < 0.005:
        return r.choice((b'{"temperature":', b'{"a":01}', b"\xff\xfe", b'{"a":NaN}', b'{"a b":1}', b"[1,2]"))
    ts, a, b = START_MS + n * 10, r.gauss(20, 5), r.gauss(1000, 200)
    shapes = (
        lambda: flat(r, n),
        lambda: flat(r, n),
        lambda: b'{"rpm":%d,"current":%.3f,"state":"%s"}' % (b, a, r.choice((b"run", b"idle", b"fault"))),
        lambda: b'{"ts":%d,"motor":{"rpm":%d,"bearing":{"x":%.4f,"y":%.4f}},"on":true}' % (ts, b, a, a / 3),
        lambda: b'[{"ts":%d,"kwh":%.3f},{"ts":%d,"kwh":%.3f}]' % (ts, b, ts + 500, b + 0.25),
        lambda: b'{"ts":"2026-11-23T12:%02d:%02d.250Z","kwh":%.3f}' % (n // 60 % 60, n % 60, b),
        lambda: b'{"battery":%d,"door":%s,"firmware":"1.%d.%d"}' % (a, r.choice((b"true", b"false")), n % 9, n % 5),
        lambda: (
            b'[{"device":"child-%d","temperature":%.2f},{"device":"child-%d","temperature":%.2f}]'
            % (n % 40, a, n % 40 + 1, a)
        ),
        lambda: b'{ "temperature": %.2f, "unit": "Cel", "seq": %d, "boot": 1 }' % (a, n),
    )
    return shapes[r.randrange(len(shapes))]()


def hostile(r: random.Random, n: int) -> bytes:
    """Every message brings a key that nobody ever saw."""
    return b'{"k%d":%.2f,"humidity":%.1f}' % (n * 7919 % 10_000_019, r.gauss(21, 3), r.gauss(45, 8))


def batches(make: Payloads, size: int, messages: int = MESSAGES, seed: int = 1) -> list[pa.RecordBatch]:
    """Record batches of schemas.raw.SCHEMA with such payloads."""
    r = random.Random(seed)
    return [batch([make(r, n) for n in range(at, at + size)], at) for at in range(0, messages, size)]


def batch(payloads: list[bytes], first: int = 0) -> pa.RecordBatch:
    """One batch: payloads as a bridge would have received them from fifty devices."""
    n = len(payloads)
    devices = [f"dev-{(first + i) % 50}" for i in range(n)]
    columns: dict[str, list[Any]] = {
        "device": devices,
        "topic": [f"d/{device}/telemetry/climate" for device in devices],
        "payload": payloads,
        "transport": [0] * n,
        "qos": [1] * n,
        "retain": [False] * n,
        "received_at": [START_MS + 10 * (first + i) for i in range(n)],
    }
    return pa.RecordBatch.from_arrays(
        [pa.array(columns.get(f.name, [None] * n), f.type) for f in raw.SCHEMA], schema=raw.SCHEMA
    )


def us_a_message(made: list[pa.RecordBatch]) -> float:
    """CPU of a warm decoder."""
    decoder = Decoder()
    for one in made[: max(1, len(made) // 4)]:
        decoder.decode(one)
    start = cpu_s()
    for one in made:
        decoder.decode(one)
    return (cpu_s() - start) * 1e6 / sum(map(len, made))


def us_of_law(made: list[pa.RecordBatch]) -> float:
    """CPU of the law, without making columns of its readings."""
    payloads = [p for one in made for p in one.column("payload").to_pylist()]
    start = cpu_s()
    for payload in payloads:
        try:
            JSON(payload, START_MS)
        except Invalid:
            continue
    return (cpu_s() - start) * 1e6 / len(payloads)


def figures(messages: int = MESSAGES, runs: int = 5) -> Iterator[Figure]:
    """decode_{kind}_{rows}_us, medians."""
    for make in (flat, mixed, hostile):
        for size in SIZES:
            made = batches(make, size, messages)
            law = median_of(runs, lambda made=made: us_of_law(made))  # type: ignore[misc]
            ours = median_of(runs, lambda made=made: us_a_message(made))  # type: ignore[misc]
            yield Figure(f"decode_{make.__name__}_{size}_us", ours, "µs CPU/message", "a message at a time", law)


if __name__ == "__main__":
    for figure in figures():
        print(orjson.dumps(figure.line()).decode())
