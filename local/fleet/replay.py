"""Series of the past sent as devices: exact, once each, at any speed; done when the platform has stored every row."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import orjson

from local.fleet import payloads
from local.fleet.connections import Connections, Endpoints
from local.fleet.publication import Publication
from local.fleet.series import Series
from runtime.errors import MillraceError
from runtime.mqtt.properties import user_property
from runtime.mqtt.wire import binary
from runtime.tasks import cancel, in_thread
from schemas.topics import telemetry_topic

CHANNEL: Final = "history"
METRIC: Final = "value"
ROWS_A_MESSAGE: Final = 250
MAX_OPEN: Final = 2_000
"""Messages that wait for Kafka's acknowledgement."""
STEP_S: Final = 0.1
"""With a speed: rows of so long go in one message."""
SILENCE_S: Final = 120.0
_LOOK_S: Final = 0.25

Rows = Counter[tuple[int, float]]
"""A multiset of (ms, value)."""


class Store(Protocol):
    """Asks for what was stored. Blocking."""

    def counts(self, boot: int) -> dict[str, int]:
        """Rows stored of this run, by device."""

    def rows(self, device: str, boot: int) -> Rows:
        """The rows of one device."""


class ReplayError(MillraceError):
    """Not everything was stored, or not as it was sent."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was sent and is stored. Times in seconds."""

    files: int
    rows: int
    skipped: int
    messages: int
    resent: int
    send_s: float
    total_s: float


def messages(series: Series, boot: int, rows_a_message: int = ROWS_A_MESSAGE) -> list[Publication]:
    """A series as messages: JSON arrays of `{"ts":…,"value":…}` with exact numbers, numbered by boot and seq."""
    chunks = [series.rows[i : i + rows_a_message] for i in range(0, len(series.rows), rows_a_message)]
    return [message(series.device, boot, seq, chunk) for seq, chunk in enumerate(chunks)]


def message(device: str, boot: int, seq: int, rows: Sequence[tuple[int, float]]) -> Publication:
    """Some rows as one message that asks for end-to-end acknowledgement."""
    payload = orjson.dumps([{"ts": time_ms, METRIC: value} for time_ms, value in rows])
    properties = payloads.identity(boot, seq) + user_property(b"ack", b"1")
    topic = binary(telemetry_topic(device, CHANNEL).encode())
    return Publication(topic, properties, payload, (boot, seq))


@dataclass(frozen=True, slots=True)
class Step:
    """What a device sends `due_s` after the start."""

    due_s: float
    device: str
    publication: Publication


def paced(series: Sequence[Series], boot: int, speed: float) -> list[Step]:
    """All messages, `speed` times as fast as it happened: the earliest row of all files is sent at once, rows go in
    order of time, and those of a device within STEP_S in one message."""
    first_ms = min(min(time_ms for time_ms, _ in one.rows) for one in series)
    steps = []
    for one in series:
        groups: dict[int, list[tuple[int, float]]] = {}
        for row in sorted(one.rows, key=lambda row: row[0]):
            groups.setdefault(int((row[0] - first_ms) / 1000 / speed / STEP_S), []).append(row)
        chunks = [
            (step, rows[i : i + ROWS_A_MESSAGE])
            for step, rows in groups.items()
            for i in range(0, len(rows), ROWS_A_MESSAGE)
        ]
        steps += [
            Step(step * STEP_S, one.device, message(one.device, boot, seq, rows))
            for seq, (step, rows) in enumerate(chunks)
        ]
    return sorted(steps, key=lambda step: step.due_s)


async def replay(
    series: Sequence[Series],
    boot: int,
    speed: float | None,
    endpoints: Endpoints,
    store: Store,
    on_stored: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Send all series, speed None as fast as they are taken, wait until all is stored, and compare it row by row.

    Raises ReplayError when what is stored is not what was sent, RetryableError when the platform takes no more.
    """
    begun = time.monotonic()
    ids = [one.device for one in series]
    total = sum(len(one.rows) for one in series)
    async with Connections(endpoints, ids, {}, frozenset(ids)) as connections:
        await connections.connected()
        counting = asyncio.create_task(_stored(store, boot, total, on_stored))
        try:
            sent = await _send(series, boot, speed, connections)
            await connections.done()
            send_s = time.monotonic() - begun
            await counting
        finally:
            await cancel(counting)
        resent = connections.totals.resent
    await in_thread(verify, series, boot, store)
    skipped = sum(one.skipped for one in series)
    return Outcome(len(series), total, skipped, sent, resent, round(send_s, 3), round(time.monotonic() - begun, 3))


async def _send(series: Sequence[Series], boot: int, speed: float | None, connections: Connections) -> int:
    """How many messages were sent."""
    sent, begun = 0, time.monotonic()
    if speed is not None:
        for step in paced(series, boot, speed):
            await asyncio.sleep(max(0.0, begun + step.due_s - time.monotonic()))
            connections.send(step.device, [step.publication])
            sent += 1
        return sent
    for one in series:
        for publication in messages(one, boot):
            if connections.totals.open > MAX_OPEN:
                await connections.done(left=MAX_OPEN // 2)
            connections.send(one.device, [publication])
            sent += 1
        await asyncio.sleep(0)
    return sent


async def _stored(store: Store, boot: int, total: int, on_stored: Callable[[int], None]) -> None:
    """Return when `total` rows of the run are stored; raise ReplayError when nothing more comes."""
    last, since = -1, time.monotonic()
    while True:
        found = sum((await in_thread(store.counts, boot)).values())
        if found != last:
            last, since = found, time.monotonic()
            on_stored(found)
        if found >= total:
            return
        if time.monotonic() - since > SILENCE_S:
            raise ReplayError(
                f"{found} of {total} rows are stored and there was no progress for {SILENCE_S:.0f} s:"
                " see `millrace status` and the tables denied and dead_letters"
            )
        await asyncio.sleep(_LOOK_S)


def verify(series: Sequence[Series], boot: int, store: Store) -> None:
    """Compare what is stored with the files, as multisets. Raises ReplayError that names the first difference."""
    for one in series:
        wanted, found = Counter(one.rows), store.rows(one.device, boot)
        if wanted != found:
            row = next(iter((wanted - found) or (found - wanted)))
            raise ReplayError(
                f"{one.device} ({one.file}): {(wanted - found).total()} rows are missing and"
                f" {(found - wanted).total()} are too many, such as {row}: in the file {wanted[row]} times,"
                f" stored {found[row]} times"
            )
