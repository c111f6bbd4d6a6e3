"""Workers of one partition with the real engine; Kafka is a few lists.

A dead or paused writer's records may land late, or never, but in order; compaction takes what a later record of the
same key replaced. States are cut small: most of a snapshot is chunks.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from runtime.stage.admission import Options
from runtime.stage.chunks import Cut
from runtime.stage.engine import Engine
from runtime.stage.newest import newest
from runtime.stage.provenance import START, Decision, after, judge
from runtime.stage.store import Reader
from runtime.tasks import cancel
from schemas.control import TopicFacts
from schemas.headers import Provenance, raw_data, raw_tick
from tests.stage.toy import Toy
from tests.support.cancelling import Cancelling
from tests.support.states import as_bytes, stored

RAW, OUT, RARE, STATE = "telemetry.raw", "model.out", "model.rare", "state.model"
WORDS = ["a", "b"]
FACTS = TopicFacts("raw-1", 0, 1)
CUT = Cut(chunk_bytes=16, inline_bytes=16)


@dataclass
class Stored:
    """A record, with the words of both a librdkafka message and a Faust one."""

    where: int
    key_: bytes | None
    value_: bytes | None
    headers_: list[tuple[str, bytes]]

    def as_faust(self) -> Any:
        return type(
            "M",
            (),
            {"partition": 0, "offset": self.where, "timestamp": self.where / 1000, "key": self.key_}
            | {"value": self.value_, "headers": self.headers_},
        )()

    def offset(self) -> int:
        return self.where

    def key(self) -> bytes | None:
        return self.key_

    def value(self) -> bytes | None:
        return self.value_

    def headers(self) -> list[tuple[str, bytes]]:
        return self.headers_

    def timestamp(self) -> tuple[int, int]:
        return 2, self.where


class Kafka(dict[str, list[Stored]]):
    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()

    def __missing__(self, topic: str) -> list[Stored]:
        return self.setdefault(topic, [])

    def add(self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> int:
        offset = self.ends[topic]
        self[topic].append(Stored(offset, key, value, headers))
        self.ends[topic] += 1
        return offset

    def compact(self, topic: str) -> None:
        """As far as Kafka may ever go: all but the last record of a key, and tombstones too, but never the last one."""
        newest = {record.key_: record.where for record in self[topic]}
        last = self.ends[topic] - 1
        self[topic] = [
            record
            for record in self[topic]
            if record.where == last or (newest[record.key_] == record.where and record.value_ is not None)
        ]


class FakeReader(Reader):
    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka

    def __exit__(self, *_: object) -> None: ...

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, self.kafka.ends[topic]

    def scan(self, topic: str, partition: int, start: int, end: int) -> Iterator[Any]:
        return iter([record for record in self.kafka[topic] if start <= record.where < end])


class KilledError(Exception):
    """The process died here."""


@dataclass
class FakeOutbox:
    """What is sent lands when the schedule says so, or when somebody waits for it; always in order."""

    kafka: Kafka
    waits: bool = True
    gapless: bool = True
    flight: list[tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]]]] = field(default_factory=list)
    offsets: dict[str, int] = field(default_factory=dict)
    pauses: bool = False
    dies_in: int = -1
    stalls_in: int = -1
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(
        self,
        topic: str,
        partition: int,
        value: bytes | None,
        headers: list[tuple[str, bytes]],
        key: bytes | None = None,
    ) -> None:
        self.flight.append((topic, key, value, headers))
        await self._pause()

    async def _pause(self) -> None:
        if self.pauses:
            await asyncio.sleep(0)

    async def settled(self, partition: int) -> dict[str, int]:
        await self._pause()
        self.dies_in -= 1
        if self.dies_in == 0:
            raise KilledError
        self.stalls_in -= 1
        if self.stalls_in == 0:
            await self.gate.wait()
        if self.waits or any(topic == STATE for topic, *_ in self.flight):
            kept = [] if self.waits else [record for record in self.flight if record[0] != STATE]
            self.land(len(self.flight), skip=kept)
            self.flight = kept
        await self._pause()
        return dict(self.offsets)

    def land(self, count: int, skip: list[Any] | None = None) -> None:
        if not self.gapless and min(count, len(self.flight)) > 1:
            del self.flight[0]
        for record in self.flight[:count]:
            if record not in (skip or []):
                self.offsets[record[0]] = self.kafka.add(*record)
        del self.flight[:count]


class Workers:
    """An owner (the first engine) and zombies (the others) of one partition."""

    def __init__(self, fenced: bool = True, cut: Cut = CUT, ballast: int = 5, **outbox: bool) -> None:
        self.kafka = Kafka()
        self.fenced, self.cut, self.outbox_options = fenced, cut, outbox
        self.stage = Toy({"TOY_NAME": "model", "TOY_BALLAST": str(ballast)})
        self.workers: list[tuple[Engine, FakeOutbox]] = []
        self.owner: Engine | None = None
        self.stalled_: dict[Engine, asyncio.Task[int]] = {}

    async def begin(self) -> None:
        engine = Engine(self.stage, FACTS, 0, Options(), self.cut)
        outbox = FakeOutbox(self.kafka, **self.outbox_options)

        async def confirm() -> set[int]:
            """The group takes commits of the owner alone."""
            await outbox._pause()
            return {0} if not self.fenced or self.owner is engine else set()

        engine.connect(outbox, lambda: FakeReader(self.kafka), lambda: None, confirm)
        self.workers.insert(0, (engine, outbox))
        self.owner = engine
        await engine.load({0})
        for forgotten, _ in self.workers[3:]:
            await self._end(forgotten)
        del self.workers[3:]

    async def _end(self, engine: Engine) -> None:
        """A process that ends, with what it was doing."""
        if engine in self.stalled_:
            task = self.stalled_.pop(engine)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def act(self, what: str, number: int) -> None:
        await cast(Callable[[int], Any], getattr(self, what))(number)

    def _pick(self, number: int) -> tuple[Engine, FakeOutbox]:
        return self.workers[0 if number % 2 else number // 2 % len(self.workers)]

    async def feed(self, number: int) -> None:
        if number % 5 == 0:
            self.kafka.add(RAW, None, b"", raw_tick(number))
        else:
            words = [WORDS[number % 2]] * (number % 4)
            self.kafka.add(RAW, None, str(words).replace("'", '"').encode(), raw_data(len(words)))

    async def step(self, number: int) -> None:
        engine, _ = self._pick(number)
        if engine in self.stalled_:
            return
        for message in self.kafka[RAW][engine.positions()[0] :][: 1 + number % 3]:
            await engine.handle(message.as_faust())

    async def land(self, number: int) -> None:
        self._pick(number)[1].land(1)

    async def snapshot(self, number: int) -> None:
        engine, _ = self._pick(number)
        if engine not in self.stalled_:
            await engine.snapshot()

    async def killed(self, number: int) -> None:
        """By kill -9; some of what it had sent still lands, before or after the next one has looked."""
        engine, outbox = self.workers.pop(0)
        await self._end(engine)
        before = number % 2
        if before:
            outbox.land(number // 2 % 4)
        await self.begin()
        if not before:
            outbox.land(number // 2 % 4)

    async def killed_in_snapshot(self, number: int) -> None:
        engine, outbox = self.workers[0]
        outbox.dies_in = 1 + number % 6
        try:
            await engine.snapshot()
        except KilledError:
            await self.killed(number)
        outbox.dies_in = -1

    async def compacted(self, number: int) -> None:
        self.kafka.compact(STATE)

    async def paused(self, number: int) -> None:
        """The owner becomes a zombie; another takes over."""
        await self.begin()

    async def stalled(self, number: int) -> None:
        """The same, in the middle of a snapshot."""
        engine, outbox = self.workers[0]
        outbox.stalls_in = 1 + number % 6
        task = asyncio.create_task(engine.snapshot())
        for _ in range(200):
            await asyncio.sleep(0.0002 if not task.done() and outbox.stalls_in > 0 else 0)
        self.stalled_[engine] = task
        await self.begin()

    async def wakes(self, number: int) -> None:
        """The zombies that were stopped in the middle of a snapshot go on with it."""
        for engine, outbox in self.workers:
            if engine in self.stalled_:
                outbox.gate.set()
                await self.stalled_.pop(engine)

    async def back(self, number: int) -> None:
        """A zombie gets the partition again and knows it; the owner dies."""
        if len(self.workers) > 1:
            await self._end(self.workers.pop(0)[0])
            await self.wakes(number)
            engine, _ = self.workers[0]
            if number % 2:  # it is notified before it gets it back
                await engine.hand_over()
                engine.release()
            self.owner = engine
            await engine.load({0})

    async def stopped(self, number: int) -> None:
        """By SIGTERM, in the middle of a snapshot, at any of its awaits."""
        engine, outbox = self.workers[0]
        if engine in self.stalled_:
            return
        outbox.pauses = True
        snapshot = Cancelling(engine.snapshot(), at=0)
        await snapshot.reached(1 + number)
        await cancel(snapshot.task)
        await engine.hand_over()
        assert stored(engine.assigned[0].state) == self.newest()
        await self.killed(number)

    def newest(self) -> bytes:
        """The state that the next one would go on from, as bytes."""
        found = newest(FakeReader(self.kafka), STATE, 0).state
        assert found is not None
        return as_bytes(found)

    async def rebalanced(self, number: int) -> None:
        """It goes and comes back to the same worker."""
        engine, _ = self.workers[0]
        await engine.hand_over()
        assert engine.committable() == {0: engine.positions()[0]}
        engine.release()
        await engine.load({0})

    async def drain(self) -> None:
        await self.begin()
        await self.wakes(0)
        engine, _ = self.workers[0]
        for message in self.kafka[RAW][engine.positions()[0] :]:
            await engine.handle(message.as_faust())
        await engine.snapshot()

    def read(self, topic: str, dedup: bool = True) -> list[bytes | None]:
        highest, values = START, list[bytes | None]()
        for record in self.kafka[topic]:
            found = Provenance.parse(dict(record.headers_))
            if not dedup or judge(highest, found, topic) is Decision.APPLY:
                highest = after(found)
                values.append(record.value_)
        return values

    async def truth(self) -> "Workers":
        """The same raw records through one worker to which nothing happens."""
        calm = Workers()
        calm.kafka[RAW] = self.kafka[RAW]
        await calm.drain()
        return calm
