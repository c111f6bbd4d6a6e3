"""Why a reading is strange, in one line of plain words. A pure function of numbers, so it is written where it is used
and kept nowhere."""

import math
from collections.abc import Callable, Sequence
from typing import Final

from streams.anomaly.core.fixed import HIGH
from streams.anomaly.core.plan import KINDS
from streams.anomaly.core.residual import SIGNALS
from streams.anomaly.detectors import Kind

Facts = Sequence[float]
_BESIDES: Final = {
    "spike": "but further off than it ever was",
    "shift": "but off for longer than it ever was",
    "level": "but its level is where it never was",
    "variability": "but it varies as it never did",
}
"""What each signal has against a value inside of the expected range."""


def number(value: float, width: float = math.nan) -> str:
    """Four digits, or as many as the integer part has; beside a range of that width, as many as
    its tenths need."""
    if math.isfinite(width) and width > 0 and abs(value) < 1e9:
        tenths = int(f"{width:e}".rpartition("e")[2]) - 1
        return f"{value:.{min(9, max(0, -tenths))}f}"
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def lasting(ms: float) -> str:
    """A duration in the unit that fits."""
    for unit, size in (("d", 86_400_000.0), ("h", 3_600_000.0), ("min", 60_000.0)):
        if ms >= 2 * size:
            return f"{number(round(ms / size, 1))} {unit}"
    return f"{number(round(ms / 1000, 1))} s"


def explain(slot: int, value: float, low: float, high: float, facts: Facts) -> str:
    """What the detector in this slot has against a value."""
    return _TELL[KINDS[slot]](value, low, high, facts)


def _residual(value: float, low: float, high: float, facts: Facts) -> str:
    width = high - low
    shown, expected = number(value, width), f"{number(low, width)} to {number(high, width)}"
    if math.isnan(low) or not low <= value <= high:
        return f"{shown}; usual at this hour {expected}"
    return f"{shown}; within the usual {expected}, {_BESIDES[SIGNALS[int(facts[0])]]}"


def _limits(value: float, low: float, high: float, facts: Facts) -> str:
    side, limit = ("above", high) if facts[0] == HIGH else ("below", low)
    back = value <= limit if facts[0] == HIGH else value >= limit
    since = f" for {lasting(facts[1])}" if facts[1] > 0 else ""
    text = f"{number(value)}; {side} the limit {number(limit)}{since}"
    return text + ", not back far enough" if back else text


def _rate(value: float, low: float, high: float, facts: Facts) -> str:
    unit, size = next((u, s) for u, s in (("s", 1.0), ("min", 60.0), ("h", 3600.0)) if facts[1] * s >= 1 or u == "h")
    before = number((low + high) / 2.0)
    return (
        f"{number(value)}, {before} before: {number(facts[0] * size)}/{unit}, at most {number(facts[1] * size)}/{unit}"
    )


def _stuck(value: float, low: float, high: float, facts: Facts) -> str:
    return f"{number(value)} for {facts[0]:.0f} readings and {lasting(facts[1])}; usual are {max(1, round(facts[2]))}"


def _silence(value: float, low: float, high: float, facts: Facts) -> str:
    return f"nothing for {lasting(facts[0])}; usual is a reading within {lasting(facts[1])}"


_TELL: Final[dict[Kind, Callable[[float, float, float, Facts], str]]] = {
    Kind.RESIDUAL: _residual,
    Kind.LIMITS: _limits,
    Kind.RATE: _rate,
    Kind.STUCK: _stuck,
    Kind.SILENCE: _silence,
}


def explain_shift(devices: float, members: float, field: str, subject: str, metric: str, within_ms: float) -> str:
    """Many devices of a group at once. `metric` "": they fell silent."""
    group = "all devices" if not subject else f"the devices of {field} {subject}"
    what = f"are strange in {metric}" if metric else "fell silent"
    return f"{devices:.0f} of {members:.0f} among {group} {what} within {lasting(within_ms)}"
