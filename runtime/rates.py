"""Rate limits: a token bucket kept as one number (the generic cell rate algorithm, ITU-T I.371).

The number is the time at which the bucket would be full again. A message passes when that lies no further ahead of now
than the burst allows, and moves it on by one interval; a message that does not pass costs nothing. Integers, µs.
streams/access does the same for columns of messages; tests/access/test_buckets.py holds the two together.
"""

from dataclasses import dataclass
from typing import Final

NEVER_US: Final = -(1 << 60)
"""`full_us` of a bucket from which nothing was taken yet."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One message per `interval_us` (1 or more); `burst_us` is how far the bucket may be from full and still give one.

    A bucket of n tokens has a `burst_us` of n - 1 intervals, so it is never negative: there is always room for one.
    """

    interval_us: int
    burst_us: int

    @classmethod
    def of(cls, messages: float, unit_s: float, burst: float) -> "RateLimit":
        """`messages` in `unit_s` seconds, `burst` of them at once; less than one at once counts as one."""
        interval_us = max(1, round(unit_s * 1e6 / messages))
        return cls(interval_us, max(0, round((burst - 1) * interval_us)))

    def wait_us(self, full_us: int, now_us: int) -> int:
        """How long until a message passes; 0 if one passes now."""
        return max(0, full_us - now_us - self.burst_us)

    def after(self, full_us: int, now_us: int) -> int:
        """`full_us` after a message that passed."""
        return max(full_us, now_us) + self.interval_us
