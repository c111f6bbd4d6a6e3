"""Flows and ranges of made-up logs."""

import time
from collections.abc import Callable, Iterable

from runtime.stage.provenance import START
from schemas.headers import Counts, Provenance, ReadingsHeaders
from schemas.vocabulary import Kind
from sinks.core.flow import Flow, Range
from sinks.core.logs import LOGS
from sinks.core.ranges import Rule
from sinks.core.records import Arrival, read_readings
from sinks.core.start import Start
from tests.support.derived import Stages
from tests.support.records import Chain, Headers

RULE = Rule(rows=20, bytes=10_000, step_ms=500, idle_ms=5_000, tick_ms=0)


def log_of(made: Iterable[tuple[Kind, int, int, int, bool]]) -> list[Arrival]:
    """A log of telemetry.readings: (kind, readings, bytes, ms since the record before, followed by a repeat)."""
    records: list[Arrival] = []
    at_ms = 1_000_000
    for src, (kind, rows, size, step_ms, repeated) in enumerate(made):
        at_ms += step_ms
        given = ReadingsHeaders(kind, at_ms, Counts(received=rows, accepted=rows, readings=rows)).encode()
        given += Provenance(0, src, src - 1).encode()
        for _ in range(1 + repeated):
            records.append(Arrival(len(records), at_ms, given, b"x" * size))
    return records


def flow(start: Start, rule: Rule = RULE) -> Flow:
    return Flow("telemetry.readings", 0, 3, start, rule, lambda record: read_readings("here", record))


def drain(of: Flow) -> list[Range]:
    """All closed ranges, each written and committed."""
    done = []
    if of.to_commit is not None:
        of.committed()
    while (part := of.next()) is not None:
        of.stored(part)
        of.committed()
        done.append(part)
    return done


def range_of(make: Callable[[Chain], object]) -> tuple[Range, Range, Chain]:
    """What a chain wrote, as one range of telemetry.raw and one of telemetry.readings."""
    parts, chain = ranges_of(make)
    return parts["telemetry.raw"], parts["telemetry.readings"], chain


def ranges_of(make: Callable[[Chain], object], stages: bool = False) -> tuple[dict[str, Range], Chain]:
    """What a chain wrote, as one range of each topic that has records."""
    logs: dict[str, list[Arrival]] = {name: [] for name in LOGS}

    def send(topic: str, _partition: int, given: Headers, value: bytes) -> None:
        logs[topic].append(Arrival(len(logs[topic]), now_ms + len(logs[topic]), given, value))

    now_ms = int(time.time() * 1000)
    chain = Chain(send, 3)
    chain.stages = Stages(send, 3) if stages else None
    make(chain)
    wide = Rule(10**9, 10**9, 10**9, 10**9, 10**9)
    start = Start(0, START, wide, START, committed=True)
    flows = {n: Flow(n, 0, 3, start, wide, log.reader(0, n), log.timed) for n, log in LOGS.items() if logs[n]}
    for name, found in flows.items():
        for record in logs[name]:
            found.take(record)
        found._close()
    return {name: found.closed[0] for name, found in flows.items()}, chain
