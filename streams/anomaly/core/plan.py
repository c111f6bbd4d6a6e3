"""Detector settings compiled to arrays: the parameters of each rule, so that a batch gathers them by the rule of each
row, however many rules there are.

A rule has eight slots: one for each detector but limits, and four for those. Slot and series name a detector at work.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from runtime.columns.types import Float64
from streams.anomaly.detectors import Detector, Detectors, Kind, Rule

SLOTS: Final = 8
RESIDUAL, RATE, STUCK, SILENCE, LIMITS = range(5)
"""Slots of the detectors; that of the first of kind limits."""
NO_RULE: Final = -1
"""Rule of a series that is not watched. As an index it finds the last row, in which no detector ever speaks."""
NO_TIMES: Final = 1e100
"""So many times the usual nothing ever is; a number, because infinity times nothing is none."""
_SLOT_OF: Final = {Kind.RESIDUAL: RESIDUAL, Kind.RATE: RATE, Kind.STUCK: STUCK, Kind.SILENCE: SILENCE}
KINDS: Final = (Kind.RESIDUAL, Kind.RATE, Kind.STUCK, Kind.SILENCE, *(Kind.LIMITS,) * 4)
"""Kind of each slot."""


class Plan:
    """`number[key]`: float64[rules + 1], a parameter by rule, beyond reach where the detector is not asked for.
    Durations are milliseconds. `limits[key]`: float64[rules + 1, up to 4]; `severity`: int64[rules + 1, SLOTS]."""

    def __init__(self, settings: Detectors) -> None:
        self.settings = settings
        self.rules = settings.rules
        rows = len(self.rules) + 1
        self.slots: list[dict[int, Detector]] = [_slots(rule) for rule in self.rules] + [{}]
        self.severity = np.zeros((rows, SLOTS), np.int64)
        for row, slots in enumerate(self.slots):
            for slot, one in slots.items():
                self.severity[row, slot] = one.severity
        self.threshold = 1.0 / self._column(RESIDUAL, "sensitivity", 0.0, np.nan)
        self.rate = self._column(RATE, "max")
        self.stuck_ms = 1000 * self._column(STUCK, "for")
        self.stuck_readings = self._column(STUCK, "readings")
        self.stuck_times = self._column(STUCK, "times", otherwise=NO_TIMES)
        self.silence_ms = 1000 * self._column(SILENCE, "for")
        self.silence_times = self._column(SILENCE, "times", otherwise=NO_TIMES)
        self.limits = self._limits()
        self.by_device = any(rule.role is not None or rule.labels for rule in self.rules)
        self._found: dict[tuple[str, str, tuple[tuple[str, str], ...]], int] = {}

    @property
    def width(self) -> int:
        """Detectors of kind limits that a rule has at most."""
        return int(self.limits["high"].shape[1])

    def has(self, slot: int) -> bool:
        """Whether any rule has a detector there."""
        return any(slot in slots for slots in self.slots)

    def name(self, rule: int, slot: int) -> str | None:
        one = self.slots[rule].get(slot)
        return None if one is None else one.name

    def slot(self, rule: int, name: str) -> int | None:
        """Where the detector of this name is, if the rule has it."""
        return next((slot for slot, one in self.slots[rule].items() if one.name == name), None)

    def rule(self, channel: str, metric: str, fields: Mapping[str, str]) -> int:
        """The first rule that fits a series, NO_RULE when none does. `fields`: role and labels of its device."""
        key = (channel, metric, tuple(sorted(fields.items())) if self.by_device else ())
        found = self._found.get(key)
        if found is None:
            fits = (n for n, rule in enumerate(self.rules) if _fits(rule, channel, metric, fields))
            found = next(fits, NO_RULE)
            if len(self._found) < 100_000:  # a memory, no more: names are bounded by the series
                self._found[key] = found
        return found

    def _column(self, slot: int, key: str, least: float = 0.0, otherwise: float = np.inf) -> Float64:
        given = [slots[slot].numbers.get(key, otherwise) if slot in slots else otherwise for slots in self.slots]
        return np.maximum(np.array(given, np.float64), least)

    def _limits(self) -> dict[str, Float64]:
        width = max(sum(slot >= LIMITS for slot in slots) for slots in self.slots)
        found = {
            key: np.full((len(self.slots), width), otherwise)
            for key, otherwise in (
                ("high", np.inf),
                ("high_clear", np.inf),
                ("low", -np.inf),
                ("low_clear", -np.inf),
                ("for_ms", 0.0),
                ("span", 1.0),
            )
        }
        for row, slots in enumerate(self.slots):
            for slot, one in slots.items():
                if slot >= LIMITS:
                    for key, value in _limit(one.numbers).items():
                        found[key][row, slot - LIMITS] = value
        return found


def _slots(rule: Rule) -> dict[int, Detector]:
    found: dict[int, Detector] = {}
    for one in rule.detectors:
        slot = _SLOT_OF.get(one.kind)
        if slot is None:
            slot = next(s for s in range(LIMITS, SLOTS) if s not in found)
        found[slot] = one
    return found


def _limit(given: Mapping[str, float]) -> dict[str, float]:
    """Bounds of one detector; `span` is what an excess is measured by."""
    high, low = given.get("high", np.inf), given.get("low", -np.inf)
    bounds = [abs(b) for b in (high, low) if np.isfinite(b)]
    span = high - low if len(bounds) == 2 else max(bounds)
    return {
        "high": high,
        "high_clear": given.get("high_clear", high),
        "low": low,
        "low_clear": given.get("low_clear", low),
        "for_ms": 1000 * given.get("for", 0.0),
        "span": max(span, 1e-9),
    }


def _fits(rule: Rule, channel: str, metric: str, fields: Mapping[str, str]) -> bool:
    return (
        _matches(rule.metric, metric)
        and _matches(rule.channel, channel)
        and (rule.role is None or fields.get("role") == rule.role)
        and all(fields.get(name) == value for name, value in rule.labels.items())
    )


def _matches(pattern: str, name: str) -> bool:
    if pattern.endswith(".*"):
        return name.startswith(pattern[:-1])
    return pattern in ("*", name)
