"""A checked policy as values. `plain()` is its JSON form, which is also what `check` accepts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from runtime.checking.checker import UNIT_S
from runtime.rates import RateLimit

DAY_S: Final = 86_400
MAX_AGE_S: Final = 400 * DAY_S
MAX_AHEAD_S: Final = DAY_S
BURST_S: Final = 900
"""A burst may hold what a quarter of an hour of the rate is, so that an honest backlog passes."""
UNLIMITED: Final = "unlimited"


@dataclass(frozen=True, slots=True)
class Rate:
    """So many messages a unit of time."""

    messages: float
    unit: str

    @property
    def interval_us(self) -> int:
        """Microseconds between messages at this rate, at least 1."""
        return RateLimit.of(self.messages, UNIT_S[self.unit], burst=1).interval_us

    def __str__(self) -> str:
        return f"{self.messages:.6f}".rstrip("0").rstrip(".") + f"/{self.unit}"


@dataclass(frozen=True, slots=True)
class MetricRule:
    """What a role may say of a metric, or of all whose name begins as the pattern says (`motor.*`, `*`)."""

    pattern: str
    deny: bool = False
    min: float | None = None
    max: float | None = None
    refuse: bool = False

    def plain(self) -> Any:
        if self.deny:
            return "deny"
        bounds: dict[str, Any] = {k: v for k, v in (("min", self.min), ("max", self.max)) if v is not None}
        return bounds | ({"out_of_range": "refuse"} if self.refuse else {})


@dataclass(frozen=True, slots=True)
class Role:
    """What devices of one role may publish. `metrics` None: any metric, unbounded. Times None: unlimited."""

    publish: tuple[str, ...]
    metrics: tuple[MetricRule, ...] | None = None
    rate: Rate | None = None
    burst: int | None = None
    bytes: int | None = None
    max_age_s: int | None = MAX_AGE_S
    max_ahead_s: int | None = MAX_AHEAD_S

    @property
    def burst_messages(self) -> int:
        """Messages that may come at once, at least 1; without meaning where there is no rate."""
        if self.burst is not None or self.rate is None:
            return self.burst or 1
        return max(1, math.ceil(self.rate.messages * BURST_S / UNIT_S[self.rate.unit]))

    def plain(self) -> dict[str, Any]:
        found: dict[str, Any] = {"publish": list(self.publish)}
        if self.metrics is not None:
            found["metrics"] = {rule.pattern: rule.plain() for rule in self.metrics}
        if self.rate is not None:
            found["rate"] = str(self.rate)
        for key, value in (("burst", self.burst), ("bytes", self.bytes)):
            if value is not None:
                found[key] = value
        return found | {"max_age": _duration(self.max_age_s), "max_ahead": _duration(self.max_ahead_s)}


def _duration(seconds: int | None) -> str:
    return UNLIMITED if seconds is None else f"{seconds}s"


@dataclass(frozen=True, slots=True)
class Policy:
    """Roles by name, and the role of devices that the registry does not know (None: they are denied)."""

    roles: Mapping[str, Role]
    unknown: str | None = None

    def plain(self) -> dict[str, Any]:
        return {"roles": {name: role.plain() for name, role in self.roles.items()}, "unknown": self.unknown}

    def encode(self) -> bytes:
        """Value of the control record `policy`: the same bytes for equal policies."""
        return orjson.dumps(self.plain(), option=orjson.OPT_SORT_KEYS)
