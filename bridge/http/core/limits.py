"""How much one device may ask for, so that a broken one cannot take the place of the others.

Requests in flight are counted; requests per second go by a token bucket in the form of GCRA: one number a device, the
time at which its bucket would be full again.
"""

import math
from typing import Final

from bridge.http.errors import too_many

_FORGET_ABOVE: Final = 10_000
"""Devices remembered before those whose bucket is full again are forgotten."""


class DeviceLimits:
    """`requests` in flight, and `per_s` requests a second after a burst of `burst_s` seconds' worth."""

    def __init__(self, requests: int, per_s: float, burst_s: float) -> None:
        self._requests = requests
        self._interval_s = 1 / per_s
        self._burst_s = burst_s
        self._flying: dict[str, int] = {}
        self._full_at_s: dict[str, float] = {}
        self._forget_above = _FORGET_ABOVE

    def enter(self, device: str, now_s: float) -> None:
        """A request begins; `leave` must follow. Raises Refusal 429, after which it must not."""
        flying = self._flying.get(device, 0)
        if flying >= self._requests:
            raise too_many(f"{flying} requests of this device are in flight already; wait for their answers")
        full_at_s = max(self._full_at_s.get(device, now_s), now_s)
        over_s = full_at_s + self._interval_s - now_s - self._burst_s
        if over_s > 0:
            text = f"more than {1 / self._interval_s:g} requests a second; put several messages into one"
            raise too_many(text, math.ceil(over_s))
        self._flying[device] = flying + 1
        self._full_at_s[device] = full_at_s + self._interval_s
        if len(self._full_at_s) > self._forget_above:
            self._forget(now_s)

    def leave(self, device: str) -> None:
        flying = self._flying[device] - 1
        if flying:
            self._flying[device] = flying
        else:
            del self._flying[device]

    def _forget(self, now_s: float) -> None:
        self._full_at_s = {device: at for device, at in self._full_at_s.items() if at > now_s}
        self._forget_above = max(_FORGET_ABOVE, 2 * len(self._full_at_s))
