"""The engine itself under random schedules of kills, zombies, rebalances and crashes in the middle of a snapshot.

Kafka is a few lists: a dead or paused writer's records may land late, or never, but in order; compaction takes what a
later record of the same key replaced. States are cut small: most of a snapshot is chunks. Whatever the schedule, a
reader that goes by provenance gets the truth, and there is a snapshot to go on from. The mutants show that the model
can tell: without a rule it finds a loss.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import RefusedError
from runtime.stage import snapshot as form
from runtime.stage.admission import Options
from runtime.stage.chunks import Cut
from runtime.stage.engine import Engine
from runtime.stage.provenance import START, Decision, after, judge
from runtime.stage.store import Reader
from schemas.control import TopicFacts
from schemas.headers import Provenance, raw_data, raw_tick
from tests.stage.toy import Toy

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

    async def settled(self, partition: int) -> dict[str, int]:
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

    def __init__(self, fenced: bool = True, **outbox: bool) -> None:
        self.kafka = Kafka()
        self.fenced, self.outbox_options = fenced, outbox
        self.stage = Toy({"TOY_NAME": "model", "TOY_BALLAST": "5"})
        self.workers: list[tuple[Engine, FakeOutbox]] = []
        self.owner: Engine | None = None
        self.stalled_: dict[Engine, asyncio.Task[int]] = {}

    async def begin(self) -> None:
        engine = Engine(self.stage, FACTS, 0, Options(), CUT)
        outbox = FakeOutbox(self.kafka, **self.outbox_options)

        async def confirm() -> set[int]:
            """The group takes commits of the owner alone."""
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
            if number % 2:  # it is told, before it gets it back
                await engine.hand_over()
                engine.release()
            self.owner = engine
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

    async def truth(self) -> "World":
        """The same raw records through one worker to which nothing happens."""
        calm = World()
        calm.kafka[RAW] = self.kafka[RAW]
        await calm.drain()
        return calm


ACTIONS = [
    *("feed", "step", "step", "land", "snapshot", "compacted", "killed", "killed_in_snapshot", "paused", "stalled"),
    *("wakes", "back", "rebalanced"),
]
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


OWNER, ZOMBIE = 3, 18
"""Numbers for `step` (one record) and `snapshot`, once there are two workers."""
WORDS_, TICK = 3, 5
"""Numbers for `feed`."""


async def _with_a_zombie(world: World) -> None:
    """Both start from a snapshot after three records of words; three ticks and three records of words are to come."""
    await world.begin()
    for number in (WORDS_, WORDS_, WORDS_):
        await world.feed(number)
        await world.step(OWNER)
    await world.snapshot(OWNER)
    await world.paused(0)
    for number in (TICK, TICK, TICK, WORDS_, WORDS_, WORDS_):
        await world.feed(number)


@pytest.mark.parametrize("fenced", [True, False])
def test_one_who_lost_the_partition_cannot_drop_what_its_successor_reads(fenced: bool) -> None:
    """The zombie runs ahead: its chunks change, and those that it started from are of no use to it any more."""

    async def run() -> None:
        world = World(fenced)
        await _with_a_zombie(world)
        for _ in range(6):
            await world.step(ZOMBIE)
            await world.snapshot(ZOMBIE)
        for _ in range(2):
            await world.step(OWNER)
            await world.snapshot(OWNER)
        world.kafka.compact(STATE)
        await world.killed(0)
        assert world.workers[0][0].positions() == {0: 5}

    if fenced:
        asyncio.run(run())
    else:
        with pytest.raises(RefusedError, match=r"no snapshot of state\.model/0 can be read"):
            asyncio.run(run())


@pytest.mark.parametrize("stalls_in", range(1, 9))
def test_what_lands_late_of_a_snapshot_is_not_gone_on_from(stalls_in: int) -> None:
    """A worker is stopped in the middle of a snapshot, wherever; its successor drops what it finds of it."""

    async def run() -> None:
        world = World()
        await _with_a_zombie(world)
        await world.step(OWNER)
        await world.stalled(stalls_in - 1)
        for _ in range(5):
            await world.step(OWNER)
            await world.snapshot(OWNER)
        at = world.workers[0][0].positions()[0]
        await world.wakes(0)
        world.kafka.compact(STATE)
        await world.killed(0)
        assert world.workers[0][0].positions()[0] in (at, at - 1), "at worst it took the newest one's place"
        assert world.read(OUT) == (await world.truth()).read(OUT)[:at]

    asyncio.run(run())


def test_chunks_that_do_not_change_are_written_once_and_what_is_not_needed_is_dropped() -> None:
    async def run() -> None:
        world = World()
        await world.begin()
        for number in (*[WORDS_] * 4, *[TICK] * 3):
            await world.feed(number)
            await world.step(OWNER)
            await world.snapshot(OWNER)
        written = [r for r in world.kafka[STATE] if not form.is_manifest(r.key_ or b"")]
        before = len(written)
        world.kafka.compact(STATE)
        needed = form.decode(world.kafka[STATE][-1].value_ or b"").chunks()
        assert 0 < len(needed) < before
        assert {r.key_ for r in world.kafka[STATE] if not form.is_manifest(r.key_ or b"")} == {
            form.chunk_key(0, chunk.name) for chunk in needed
        }

    asyncio.run(run())


@pytest.mark.parametrize("damaged", ["manifest", "chunk", "missing chunk"])
def test_a_damaged_snapshot_falls_back_to_the_one_before(damaged: str) -> None:
    async def run() -> None:
        world = World()
        await world.begin()
        for _ in range(6):
            await world.feed(WORDS_)
            await world.step(OWNER)
            await world.snapshot(OWNER)
        manifest = next(r for r in reversed(world.kafka[STATE]) if form.is_manifest(r.key_ or b""))
        newest = max(form.decode(manifest.value_ or b"").chunks(), key=lambda chunk: chunk.offset)
        hit = manifest if damaged == "manifest" else next(r for r in world.kafka[STATE] if r.where == newest.offset)
        hit.value_ = (hit.value_ or b"")[:-1]
        if damaged == "missing chunk":
            world.kafka[STATE].remove(hit)
        await world.killed(0)
        assert world.workers[0][0].positions() == {0: 5}
        await world.drain()
        assert world.read(OUT) == (await world.truth()).read(OUT)

    asyncio.run(run())
