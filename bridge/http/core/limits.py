"""How much one device may ask for, so that a broken one cannot take the place of the others.

Requests in flight are counted; requests per second go by a token bucket per device.
"""

import math
from typing import Final

from bridge.http.errors import too_many
from runtime.rates import NEVER_US, RateLimit

_FORGET_ABOVE: Final = 10_000
"""Devices remembered before those whose bucket is full again are forgotten."""


class DeviceLimits:
    """`requests` in flight, and `per_s` requests a second after a burst of `burst_s` seconds' worth, at least one."""

    def __init__(self, requests: int, per_s: float, burst_s: float) -> None:
        self._requests = requests
        self._per_s = per_s
        self._rate = RateLimit.of(per_s, 1, burst=per_s * burst_s)
        self._flying: dict[str, int] = {}
        self._full_us: dict[str, int] = {}
        self._forget_above = _FORGET_ABOVE

    def enter(self, device: str, now_s: float) -> None:
        """A request begins; `leave` must follow. Raises Refusal 429, after which it must not."""
        flying = self._flying.get(device, 0)
        if flying >= self._requests:
            raise too_many(f"{flying} requests of this device are in flight already; wait for their answers")
        full_us, now_us = self._full_us.get(device, NEVER_US), int(now_s * 1e6)
        if wait_us := self._rate.wait_us(full_us, now_us):
            text = f"more than {self._per_s:g} requests a second; put several messages into one"
            raise too_many(text, math.ceil(wait_us / 1e6))
        self._flying[device] = flying + 1
        self._full_us[device] = self._rate.after(full_us, now_us)
        if len(self._full_us) > self._forget_above:
            self._forget(now_us)

    def leave(self, device: str) -> None:
        flying = self._flying[device] - 1
        if flying:
            self._flying[device] = flying
        else:
            del self._flying[device]

    def _forget(self, now_us: int) -> None:
        self._full_us = {device: at for device, at in self._full_us.items() if at > now_us}
        self._forget_above = max(_FORGET_ABOVE, 2 * len(self._full_us))
