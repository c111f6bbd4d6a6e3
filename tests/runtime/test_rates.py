"""runtime.rates against a bucket of tokens that is refilled the way one explains it."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from runtime.rates import NEVER_US, RateLimit


class Bucket:
    """A bucket of `burst` tokens, full at first; one token every `interval_us`."""

    def __init__(self, interval_us: int, burst: int) -> None:
        self.interval_us, self.burst, self.tokens, self.at_us = interval_us, burst, Fraction(burst), 0

    def take(self, now_us: int) -> bool:
        self.tokens = min(Fraction(self.burst), self.tokens + Fraction(now_us - self.at_us, self.interval_us))
        self.at_us = now_us
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@given(st.integers(1, 10**7), st.integers(1, 20), st.lists(st.integers(0, 10**7), max_size=60))
def test_a_rate_limit_passes_what_a_bucket_of_tokens_passes(interval_us: int, burst: int, steps: list[int]) -> None:
    limit, bucket, full_us, now_us = RateLimit(interval_us, (burst - 1) * interval_us), Bucket(interval_us, burst), 0, 0
    for step in steps:
        now_us += step
        passes = limit.wait_us(full_us, now_us) == 0
        assert passes == bucket.take(now_us)
        if passes:
            full_us = limit.after(full_us, now_us)


@given(st.floats(1e-3, 1e6), st.sampled_from([1.0, 60.0, 3600.0]), st.floats(0, 1e4), st.integers(0, 10**15))
def test_a_bucket_always_has_room_for_one_message(messages: float, unit_s: float, burst: float, now_us: int) -> None:
    limit = RateLimit.of(messages, unit_s, burst)
    assert limit.wait_us(NEVER_US, now_us) == 0
    full_us = limit.after(NEVER_US, now_us)
    assert limit.wait_us(full_us, now_us + limit.wait_us(full_us, now_us)) == 0


@given(st.floats(0.01, 1e4), st.integers(1, 200))
def test_a_full_bucket_gives_its_burst_at_once_and_no_more(per_s: float, burst: int) -> None:
    limit, full_us = RateLimit.of(per_s, 1, burst), NEVER_US
    for _ in range(burst):
        assert limit.wait_us(full_us, 0) == 0
        full_us = limit.after(full_us, 0)
    assert limit.wait_us(full_us, 0) == limit.interval_us
