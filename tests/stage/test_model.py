"""The engine itself under random schedules of kills, stops, zombies and rebalances, in the middle of a snapshot too.

Whatever the schedule, a reader that goes by provenance gets the truth, and there is a snapshot to go on from. The
mutants show that the model detects faults: without a rule it finds a loss.
"""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import RefusedError
from runtime.stage import snapshot as form
from tests.stage.model import OUT, RARE, STATE, Workers

ACTIONS = [
    *("feed", "step", "step", "land", "snapshot", "compacted", "killed", "killed_in_snapshot", "paused", "stalled"),
    *("wakes", "back", "rebalanced", "stopped"),
]
_schedules = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 15)), min_size=5, max_size=60)


async def _play(workers: Workers, schedule: list[tuple[str, int]]) -> None:
    await workers.begin()
    for what, number in schedule:
        await workers.feed(number)
        await workers.act(what, number)
    await workers.drain()


@settings(max_examples=200, deadline=None)
@given(_schedules)
def test_no_schedule_loses_or_doubles(schedule: list[tuple[str, int]]) -> None:
    async def run() -> None:
        workers = Workers()
        await _play(workers, schedule)
        calm = await workers.truth()
        for topic in (OUT, RARE):
            assert workers.read(topic) == calm.read(topic)

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
        workers = Workers(**outbox)
        try:
            await _play(workers, [(dice.choice(ACTIONS), dice.randrange(16)) for _ in range(40)])
            return workers.read(OUT, dedup) != (await workers.truth()).read(OUT)
        except RefusedError:
            return True

    assert any(asyncio.run(differs(seed)) for seed in range(40)), f"{mutant}: the model did not notice"


OWNER, ZOMBIE = 3, 18
"""Numbers for `step` (one record) and `snapshot`, once there are two workers."""
WORDS_, TICK = 3, 5
"""Numbers for `feed`."""


async def _with_a_zombie(workers: Workers) -> None:
    """Both start from a snapshot after three records of words; three ticks and three records of words are to come."""
    await workers.begin()
    for number in (WORDS_, WORDS_, WORDS_):
        await workers.feed(number)
        await workers.step(OWNER)
    await workers.snapshot(OWNER)
    await workers.paused(0)
    for number in (TICK, TICK, TICK, WORDS_, WORDS_, WORDS_):
        await workers.feed(number)


@pytest.mark.parametrize("fenced", [True, False])
def test_one_who_lost_the_partition_cannot_drop_what_its_successor_reads(fenced: bool) -> None:
    """The zombie runs ahead: its chunks change, and those that it started from are of no use to it any more."""

    async def run() -> None:
        workers = Workers(fenced)
        await _with_a_zombie(workers)
        for _ in range(6):
            await workers.step(ZOMBIE)
            await workers.snapshot(ZOMBIE)
        for _ in range(2):
            await workers.step(OWNER)
            await workers.snapshot(OWNER)
        workers.kafka.compact(STATE)
        await workers.killed(0)
        assert workers.workers[0][0].positions() == {0: 5}

    if fenced:
        asyncio.run(run())
    else:
        with pytest.raises(RefusedError, match=r"no snapshot of state\.model/0 can be read"):
            asyncio.run(run())


@pytest.mark.parametrize("stalls_in", range(1, 9))
def test_what_lands_late_of_a_snapshot_is_not_gone_on_from(stalls_in: int) -> None:
    """A worker is stopped in the middle of a snapshot, wherever; its successor drops what it finds of it."""

    async def run() -> None:
        workers = Workers()
        await _with_a_zombie(workers)
        await workers.step(OWNER)
        await workers.stalled(stalls_in - 1)
        for _ in range(5):
            await workers.step(OWNER)
            await workers.snapshot(OWNER)
        at = workers.workers[0][0].positions()[0]
        await workers.wakes(0)
        workers.kafka.compact(STATE)
        await workers.killed(0)
        assert workers.workers[0][0].positions()[0] in (at, at - 1), "at worst it took the newest one's place"
        assert workers.read(OUT) == (await workers.truth()).read(OUT)[:at]

    asyncio.run(run())


def test_chunks_that_do_not_change_are_written_once_and_what_is_not_needed_is_dropped() -> None:
    async def run() -> None:
        workers = Workers()
        await workers.begin()
        for number in (*[WORDS_] * 4, *[TICK] * 3):
            await workers.feed(number)
            await workers.step(OWNER)
            await workers.snapshot(OWNER)
        written = [r for r in workers.kafka[STATE] if not form.is_manifest(r.key_ or b"")]
        before = len(written)
        workers.kafka.compact(STATE)
        needed = form.decode(workers.kafka[STATE][-1].value_ or b"").chunks()
        assert 0 < len(needed) < before
        assert {r.key_ for r in workers.kafka[STATE] if not form.is_manifest(r.key_ or b"")} == {
            form.chunk_key(0, chunk.name) for chunk in needed
        }

    asyncio.run(run())


@pytest.mark.parametrize("damaged", ["manifest", "chunk", "missing chunk"])
def test_a_damaged_snapshot_falls_back_to_the_one_before(damaged: str) -> None:
    async def run() -> None:
        workers = Workers()
        await workers.begin()
        for _ in range(6):
            await workers.feed(WORDS_)
            await workers.step(OWNER)
            await workers.snapshot(OWNER)
        manifest = next(r for r in reversed(workers.kafka[STATE]) if form.is_manifest(r.key_ or b""))
        newest = max(form.decode(manifest.value_ or b"").chunks(), key=lambda chunk: chunk.offset)
        hit = manifest if damaged == "manifest" else next(r for r in workers.kafka[STATE] if r.where == newest.offset)
        hit.value_ = (hit.value_ or b"")[:-1]
        if damaged == "missing chunk":
            workers.kafka[STATE].remove(hit)
        await workers.killed(0)
        assert workers.workers[0][0].positions() == {0: 5}
        await workers.drain()
        assert workers.read(OUT) == (await workers.truth()).read(OUT)

    asyncio.run(run())
