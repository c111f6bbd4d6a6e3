"""sink_buffer_bytes bounds what all partitions hold together, and reaching it never stops the flow permanently."""

import random

from hypothesis import given
from hypothesis import strategies as st

from sinks.core.budget import Budget, Key, Use

RANGE, RECORD = 16_000, 1_000


@given(st.integers(0, 1 << 32), st.integers(1, 36), st.integers(20_000, 200_000))
def test_a_backlog_of_many_partitions_stays_below_the_bound_and_is_read_to_its_end(
    seed: int, partitions: int, limit: int
) -> None:
    """A range closes at RANGE bytes or at the end of the log, and is written some turns later."""
    rng = random.Random(seed)
    budget = Budget(limit, RANGE)
    left: dict[Key, int] = {("t", n): rng.randrange(60) for n in range(partitions)}
    opened, closed = dict.fromkeys(left, 0), dict.fromkeys(left, 0)
    budget.take(RECORD)
    for _ in range(40_000):
        held = sum(opened.values()) + sum(closed.values())
        assert held <= limit
        if not any(left.values()) and not held:
            return
        paused = budget.paused({k: Use(opened[k] + closed[k], closed[k] > 0, left[k] > 0) for k in left})
        readable = [k for k in left if left[k] and k not in paused]
        for _ in range(budget.records(held)):
            if not readable:
                break
            key = rng.choice(readable)
            left[key] -= 1
            opened[key] += rng.randrange(1, RECORD + 1)
            if opened[key] >= RANGE or not left[key]:
                closed[key], opened[key] = closed[key] + opened[key], 0
            readable = [k for k in readable if left[k]]
        for key in left:
            if closed[key] and rng.random() < 0.3:
                closed[key] = 0
    raise AssertionError(f"no progress: {left}")


def test_paused_partitions_that_seem_read_to_their_end_do_not_all_stay_paused() -> None:
    """Kafka's client learns the end of a log by fetching it: of a paused one it never learns that records came."""
    budget = Budget(100_000, RANGE)
    uses = {("t", n): Use(15_000 + n, closed=False, behind=False) for n in range(6)}
    assert uses.keys() - budget.paused(uses) == {("t", 5)}
