"""Rate limits against a bucket that is refilled the way one explains it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.columns.grouped import Grouped
from runtime.rates import NEVER_US, RateLimit
from streams.access.core.buckets import Buckets
from tests.access.tokens import Tokens

LIMITS = {0: (1_000, 1), 1: (100_000, 5), 2: (333_333, 3), 3: (50, 1000)}
"""Device -> µs between messages, burst in messages."""


moves = st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400_000)), max_size=25), max_size=8)


@settings(max_examples=150)
@given(moves)
def test_batches_pass_what_tokens_pass_one_by_one(batches: list[list[tuple[int, int]]]) -> None:
    buckets, oracle, now = Buckets(4), {d: Tokens(*LIMITS[d]) for d in LIMITS}, 10**15
    for found in batches:
        rows = []
        for device, step in found:
            now += step
            rows.append((device, now))
        device = np.array([d for d, _ in rows], np.int32)
        now_us = np.array([t for _, t in rows], np.int64)
        interval = np.array([LIMITS[d][0] for d, _ in rows], np.int64)
        burst = np.array([(LIMITS[d][1] - 1) * LIMITS[d][0] for d, _ in rows], np.int64)
        plan = buckets.plan(Grouped(device), now_us, interval, burst)
        assert plan.passes.tolist() == [oracle[d].take(t) for d, t in rows]
        buckets.commit(plan)


@settings(max_examples=150)
@given(moves)
def test_columns_pass_what_the_one_definition_of_a_rate_passes(batches: list[list[tuple[int, int]]]) -> None:
    limits = {d: RateLimit(interval, (burst - 1) * interval) for d, (interval, burst) in LIMITS.items()}
    buckets, full, now = Buckets(4), dict.fromkeys(LIMITS, NEVER_US), 10**15
    for found in batches:
        expected, rows = [], []
        for device, step in found:
            now += step
            rows.append((device, now))
            expected.append(limits[device].wait_us(full[device], now) == 0)
            if expected[-1]:
                full[device] = limits[device].after(full[device], now)
        device = np.array([d for d, _ in rows], np.int32)
        interval = np.array([limits[d].interval_us for d, _ in rows], np.int64)
        burst = np.array([limits[d].burst_us for d, _ in rows], np.int64)
        plan = buckets.plan(Grouped(device), np.array([t for _, t in rows], np.int64), interval, burst)
        assert plan.passes.tolist() == expected
        buckets.commit(plan)
        assert buckets.full_us.tolist() == list(full.values())


def test_times_far_apart_do_not_overflow() -> None:
    buckets = Buckets(3)
    device = np.array([0, 1, 2, 0, 1, 2], np.int32)
    now = np.array([-(2**62), 0, 2**62, 2**61, 5, 2**62], np.int64) // 1024
    interval = np.full(6, 86_400_000_000, np.int64)
    plan = buckets.plan(Grouped(device), now, interval, np.zeros(6, np.int64))
    assert plan.passes.tolist() == [True, True, True, True, False, False]


def test_what_does_not_pass_costs_nothing() -> None:
    buckets = Buckets(1)
    one = np.array([1_000_000], np.int64)
    for now, expected in ((0, True), (900_000, False), (999_999, False), (1_000_000, True)):
        plan = buckets.plan(Grouped(np.zeros(1, np.int32)), np.array([now], np.int64), one, np.zeros(1, np.int64))
        assert plan.passes.tolist() == [expected]
        buckets.commit(plan)
