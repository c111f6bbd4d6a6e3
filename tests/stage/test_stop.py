"""A stop breaks a snapshot off, wherever it is, and stores another one: that one is the state, byte for byte."""

import asyncio

import pytest

from runtime.stage.chunks import Cut
from runtime.tasks import cancel
from tests.stage.model import OUT, Workers
from tests.support.cancelling import Cancelling
from tests.support.states import stored

KB, MB = 1 << 10, 1 << 20
SIZES = [KB, 100 * KB, MB, 16 * MB, 64 * MB]
WORDS, ONE = 3, 3
"""Numbers for `feed` and `step`: a record of three words, one record."""


def workers(size_bytes: int) -> Workers:
    """Its state is mostly one array of `size_bytes`, which is stored in two chunks."""
    cut = Cut(chunk_bytes=max(16, size_bytes // 2), inline_bytes=64)
    return Workers(cut=cut, ballast=size_bytes // 8, pauses=True)


async def awaits(size_bytes: int) -> int:
    """Of the first snapshot of such a state."""
    calm = workers(size_bytes)
    await begin(calm)
    counted = Cancelling(calm.workers[0][0].snapshot(), at=0)
    await counted.cancelled()
    return counted.suspensions


async def begin(of: Workers) -> None:
    """A worker that has taken over what another one stored, and has made no copy itself: it has no buffers yet."""
    await of.begin()
    await of.killed(1)
    for _ in range(3):
        await of.feed(WORDS)
        await of.step(ONE)


async def stopped(size_bytes: int, at: int, delay_s: float) -> None:
    """What Worker.stop does while a snapshot is at its await number `at`; records come in between."""
    one = workers(size_bytes)
    await begin(one)
    engine = one.workers[0][0]
    under_way = Cancelling(engine.snapshot(), at, delay_s)
    await under_way.reached(at)
    for _ in range(2):
        await one.feed(WORDS)
        await one.step(ONE)
    await asyncio.sleep(delay_s)
    await cancel(under_way.task)
    await engine.hand_over()
    assert one.newest() == stored(engine.assigned[0].state), f"the snapshot stored is not the state: await {at}"
    if size_bytes <= MB:
        await one.killed(1)
        await one.drain()
        assert one.read(OUT) == (await one.truth()).read(OUT)


@pytest.mark.parametrize("size_bytes", SIZES)
def test_no_stop_stores_a_snapshot_that_is_not_the_state(size_bytes: int) -> None:
    """Cancelled at every await; of the largest, where each costs a second, at the first: there buffers are made and
    filled, and threads work on them."""

    async def run() -> None:
        count = await awaits(size_bytes)
        assert count > 10, "the snapshot has become a matter of fewer awaits: does this test still see them?"
        for at in range(1, count + 1 if size_bytes < 64 * MB else 8):
            await stopped(size_bytes, at, delay_s=0.002 if size_bytes == 16 * MB else 0.0)

    asyncio.run(run())


@pytest.mark.parametrize("at", range(1, 5))
def test_a_record_in_hand_is_part_of_the_snapshot_at_a_stop(at: int) -> None:
    """Applied, its outputs still on their way: the hand-over waits for it though nothing had moved before."""

    async def run() -> None:
        one = workers(KB)
        await begin(one)
        engine = one.workers[0][0]
        await engine.snapshot()
        await one.feed(WORDS)
        step = Cancelling(one.step(ONE), at=0)
        await step.reached(at)
        await engine.hand_over()
        assert one.newest() == stored(engine.assigned[0].state)
        await step.cancelled()
        assert engine.committable() == engine.positions()

    asyncio.run(run())
