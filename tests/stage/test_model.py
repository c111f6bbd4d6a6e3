"""The engine itself under random schedules of kills, zombies, rebalances and crashes in the middle of a snapshot.

Kafka is a few lists: a dead or paused writer's records may land late, or never, but in order. Whatever the schedule, a
reader that goes by provenance gets the truth. The mutants show that the model can tell: without a rule it finds a loss.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import RefusedError
from runtime.stage.admission import Options
from runtime.stage.engine import Engine
from runtime.stage.provenance import START, Decision, after, judge
from runtime.stage.store import Reader
from schemas.control import TopicFacts
from schemas.headers import Provenance, raw_data, raw_tick
from tests.stage.toy import Toy

RAW, OUT, RARE, STATE = "telemetry.raw", "model.out", "model.rare", "state.model"
WORDS = ["a", "b"]
FACTS = TopicFacts("raw-1", 0, 1)


@dataclass
class Stored:
    """A record, with the words of both a librdkafka message and a Faust one."""

    where: int
    key_: bytes | None
    value_: bytes
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

    def value(self) -> bytes:
        return self.value_

    def headers(self) -> list[tuple[str, bytes]]:
        return self.headers_

    def timestamp(self) -> tuple[int, int]:
        return 2, self.where


class Kafka(dict[str, list[Stored]]):
    def __missing__(self, topic: str) -> list[Stored]:
        return self.setdefault(topic, [])

    def add(self, topic: str, key: bytes | None, value: bytes, headers: list[tuple[str, bytes]]) -> int:
        self[topic].append(Stored(len(self[topic]), key, value, headers))
        return len(self[topic]) - 1


class FakeReader(Reader):
    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka

    def __exit__(self, *_: object) -> None: ...

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, len(self.kafka[topic])

    def scan(self, topic: str, partition: int, start: int, end: int) -> Iterator[Any]:
        return iter(self.kafka[topic][start:end])


class KilledError(Exception):
    """The process died here."""


@dataclass
class FakeOutbox:
    """What is sent lands when the schedule says so, or when somebody waits for it; always in order."""

    kafka: Kafka
    waits: bool = True
    gapless: bool = True
    flight: list[tuple[str, bytes | None, bytes, list[tuple[str, bytes]]]] = field(default_factory=list)
    offsets: dict[str, int] = field(default_factory=dict)
    dies_in: int = -1

    async def send(
        self, topic: str, partition: int, value: bytes, headers: list[tuple[str, bytes]], key: bytes | None = None
    ) -> None:
        self.flight.append((topic, key, value, headers))

    async def settled(self, partition: int) -> dict[str, int]:
        self.dies_in -= 1
        if self.dies_in == 0:
            raise KilledError
        if self.waits or any(topic == STATE for topic, *_ in self.flight):
            kept = [] if self.waits else [record for record in self.flight if record[0] != STATE]
            self.land(len(self.flight), skip=kept)
            self.flight = kept
        return dict(self.offsets)

    def land(self, count: int, skip: list[Any] | None = None) -> None:
        if not self.gapless and min(count, len(self.flight)) > 1:
            del self.flight[0]
        for record in self.flight[:count]:
            if record not in (skip or []):
                self.offsets[record[0]] = self.kafka.add(*record)
        del self.flight[:count]


class World:
    """An owner (the first engine) and zombies (the others) of one partition."""

    def __init__(self, **outbox: bool) -> None:
        self.kafka = Kafka()
        self.outbox_options = outbox
        self.stage = Toy({"TOY_NAME": "model"})
        self.workers: list[tuple[Engine, FakeOutbox]] = []

    async def begin(self) -> None:
        engine = Engine(self.stage, FACTS, 0, Options())
        outbox = FakeOutbox(self.kafka, **self.outbox_options)
        engine.connect(outbox, lambda: FakeReader(self.kafka), lambda: None)
        await engine.load({0})
        self.workers.insert(0, (engine, outbox))
        del self.workers[3:]

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
        for message in self.kafka[RAW][engine.positions()[0] :][: 1 + number % 3]:
            await engine.handle(message.as_faust())

    async def land(self, number: int) -> None:
        self._pick(number)[1].land(1)

    async def snapshot(self, number: int) -> None:
        await self._pick(number)[0].snapshot()

    async def killed(self, number: int) -> None:
        """By kill -9; some of what it had sent still lands, before or after the next one has looked."""
        _, outbox = self.workers.pop(0)
        before = number % 2
        if before:
            outbox.land(number // 2 % 4)
        await self.begin()
        if not before:
            outbox.land(number // 2 % 4)

    async def killed_in_snapshot(self, number: int) -> None:
        engine, outbox = self.workers[0]
        outbox.dies_in = 1 + number % 2
        try:
            await engine.snapshot()
        except KilledError:
            await self.killed(number)
        outbox.dies_in = -1

    async def paused(self, number: int) -> None:
        """The owner becomes a zombie; another takes over."""
        await self.begin()

    async def back(self, number: int) -> None:
        """A zombie gets the partition again and knows it; the owner dies."""
        if len(self.workers) > 1:
            self.workers.pop(0)
            engine, _ = self.workers[0]
            await engine.hand_over()
            engine.release()
            await engine.load({0})

    async def rebalanced(self, number: int) -> None:
        """It goes and comes back to the same worker."""
        engine, _ = self.workers[0]
        await engine.hand_over()
        assert engine.committable() == {0: engine.positions()[0]}
        engine.release()
        await engine.load({0})

    async def drain(self) -> None:
        await self.begin()
        engine, _ = self.workers[0]
        for message in self.kafka[RAW][engine.positions()[0] :]:
            await engine.handle(message.as_faust())
        await engine.snapshot()

    def read(self, topic: str, dedup: bool = True) -> list[bytes]:
        highest, values = START, []
        for record in self.kafka[topic]:
            found = Provenance.parse(dict(record.headers_))
            if not dedup or judge(highest, found, topic) is Decision.APPLY:
                highest = after(found)
                values.append(record.value_)
        return values

    async def truth(self) -> "World":
        """The same raw records through one worker to which nothing happens."""
        calm = World()
        calm.kafka[RAW] = self.kafka[RAW]
        await calm.drain()
        return calm


ACTIONS = ["feed", "step", "step", "land", "snapshot", "killed", "killed_in_snapshot", "paused", "back", "rebalanced"]
_schedules = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 15)), min_size=5, max_size=60)


async def _play(world: World, schedule: list[tuple[str, int]]) -> None:
    await world.begin()
    for what, number in schedule:
        await world.feed(number)
        await world.act(what, number)
    await world.drain()


@settings(max_examples=200, deadline=None)
@given(_schedules)
def test_no_schedule_loses_or_doubles(schedule: list[tuple[str, int]]) -> None:
    async def run() -> None:
        world = World()
        await _play(world, schedule)
        calm = await world.truth()
        for topic in (OUT, RARE):
            assert world.read(topic) == calm.read(topic)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("mutant", "outbox", "dedup"),
    [
        ("the snapshot does not wait for outputs", {"waits": False}, True),
        ("the producer leaves gaps", {"gapless": False}, True),
        ("the reader takes repeats", {}, False),
    ],
)
def test_without_a_rule_some_schedule_fails(mutant: str, outbox: dict[str, bool], dedup: bool) -> None:
    async def differs(seed: int) -> bool:
        dice = random.Random(seed)
        world = World(**outbox)
        try:
            await _play(world, [(dice.choice(ACTIONS), dice.randrange(16)) for _ in range(40)])
            return world.read(OUT, dedup) != (await world.truth()).read(OUT)
        except RefusedError:
            return True

    assert any(asyncio.run(differs(seed)) for seed in range(40)), f"{mutant}: the model did not notice"
