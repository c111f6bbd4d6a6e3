"""A bucket that is refilled the way one explains it."""

from fractions import Fraction


class Tokens:
    """A bucket of tokens, full at first; one token every `interval` µs. Time never runs backwards in it."""

    def __init__(self, interval: int, burst: int) -> None:
        self.interval, self.burst = interval, burst
        self.tokens, self.at = Fraction(burst), None

    def take(self, now: int) -> bool:
        if self.at is None:
            self.at = now
        if now > self.at:
            self.tokens = min(Fraction(self.burst), self.tokens + Fraction(now - self.at, self.interval))
            self.at = now
        behind = Fraction(self.at - now, self.interval)
        if self.tokens - behind < 1:
            return False
        self.tokens -= 1
        return True
