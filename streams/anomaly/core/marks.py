"""Operators' marks on incidents: a false alarm makes its detector harder to convince for that series, once."""

from typing import Any, Final

import numpy as np

from runtime.columns.types import Float64
from schemas.control import Mark
from streams.anomaly.core.plan import NO_RULE, SLOTS, Plan

RAISE: Final = 1.5
"""Each false alarm multiplies the threshold by it."""
MAX_LEVEL: Final = 8
MAX_MARKED: Final = 10_000
"""Series and groups with marks, of a partition; marks beyond are refused and counted."""
MAX_REMEMBERED: Final = 10_000
"""Incidents whose mark is remembered, so that it counts once and can be taken back; the oldest are forgotten."""

Subject = tuple[str, str, str, str, str]
"""scope, device or value of the group, channel, metric, name of the detector."""


class Marks:
    """`levels`: how often a subject's threshold was raised; `marked`: the last mark on an incident."""

    def __init__(self) -> None:
        self.levels: dict[Subject, int] = {}
        self.marked: dict[str, str] = {}

    def take(self, mark: Mark) -> str:
        """Apply a new mark; the result, for the metric: raised, lowered, kept, unknown, full."""
        subject = (mark.scope, mark.subject, mark.channel, mark.metric, mark.detector)
        if not mark.detector:
            return "unknown"
        before = self.marked.get(mark.incident)
        was, now = before == "false-alarm", mark.mark == "false-alarm"
        step = int(now) - int(was)
        level = self.levels.get(subject, 0)
        if step > 0 and level == 0 and len(self.levels) >= MAX_MARKED:
            return "full"
        self.marked.pop(mark.incident, None)
        self.marked[mark.incident] = mark.mark
        if len(self.marked) > MAX_REMEMBERED:
            self.marked.pop(next(iter(self.marked)))
        self._set(subject, min(MAX_LEVEL, max(0, level + step)))
        return {1: "raised", -1: "lowered", 0: "kept"}[step]

    def _set(self, subject: Subject, level: int) -> None:
        if level:
            self.levels[subject] = level
        else:
            self.levels.pop(subject, None)

    def factor(self, subject: Subject) -> float:
        """By how much the threshold of a subject is raised: 1 and more."""
        return power(self.levels.get(subject, 0))

    def stored(self) -> dict[str, Any]:
        """For a snapshot's meta."""
        return {"levels": [[*subject, level] for subject, level in self.levels.items()], "said": self.marked}

    def restore(self, levels: list[list[Any]], said: dict[str, str]) -> None:
        self.levels = {(str(a), str(b), str(c), str(d), str(e)): int(level) for a, b, c, d, e, level in levels}
        self.marked = dict(said)


def power(level: int) -> float:
    """RAISE to a level, by multiplication: the same bits everywhere."""
    found = 1.0
    for _ in range(level):
        found *= RAISE
    return found


class Harder:
    """The marks of series as arrays, rebuilt when marks, series or settings change; no part of the state."""

    def __init__(self) -> None:
        self._place: Any = np.zeros(0, np.int32)
        self._factors: Float64 = np.ones((1, SLOTS))

    def build(self, plan: Plan, rules: Any, marked: list[tuple[int, str, int]]) -> None:
        """`rules`: of each series; `marked`: (series, name of the detector, level)."""
        by_series: dict[int, list[tuple[int, int]]] = {}
        for series, name, level in marked:
            slot = None if rules[series] == NO_RULE else plan.slot(int(rules[series]), name)
            if slot is not None:
                by_series.setdefault(series, []).append((slot, level))
        self._place = np.zeros(len(rules), np.int32)
        self._factors = np.ones((1 + len(by_series), SLOTS))
        for row, (series, levels) in enumerate(by_series.items(), 1):
            self._place[series] = row
            for slot, level in levels:
                self._factors[row, slot] = power(level)

    def of(self, series: Any) -> Float64 | None:
        """float64[rows, SLOTS], or None when no series is marked. Series that came since `build` are not."""
        if len(self._factors) == 1:
            return None
        known = series < len(self._place)
        found: Float64 = self._factors[np.where(known, self._place.take(series, mode="clip"), 0)]
        return found
