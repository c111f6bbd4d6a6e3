"""Checked detector settings as values. `plain()` is their JSON form, which is also what `check` accepts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import orjson

from schemas.vocabulary import Severity

ALL: Final = "all"
"""A shift's group: every device of the partition."""
SHIFT: Final = "shift"
"""What a shift is called where the name of a detector stands."""


class Kind(StrEnum):
    """What a detector looks at."""

    RESIDUAL = "residual"
    """Readings that are not like those before: core/residual.py."""
    LIMITS = "limits"
    """Readings outside of fixed limits, with hysteresis."""
    RATE = "rate"
    """Changes faster than a limit."""
    STUCK = "stuck"
    """The same value repeatedly."""
    SILENCE = "silence"
    """No reading."""


class Form(StrEnum):
    """How a parameter is written, and in which unit it is kept."""

    NUMBER = "number"
    """In the unit of the value, or without one."""
    DURATION = "duration"
    """15m; kept in seconds."""
    PER_TIME = "rate"
    """5/min; kept in units of the value a second."""
    COUNT = "count"
    """A whole number of readings."""


PARAMETERS: Final[Mapping[Kind, Mapping[str, Form]]] = {
    Kind.RESIDUAL: {"sensitivity": Form.NUMBER},
    Kind.LIMITS: {
        "high": Form.NUMBER,
        "high_clear": Form.NUMBER,
        "low": Form.NUMBER,
        "low_clear": Form.NUMBER,
        "for": Form.DURATION,
    },
    Kind.RATE: {"max": Form.PER_TIME},
    Kind.STUCK: {"for": Form.DURATION, "readings": Form.COUNT, "times": Form.NUMBER},
    Kind.SILENCE: {"for": Form.DURATION, "times": Form.NUMBER},
}
"""Settings of each kind, beside `name` and `severity`."""

SEVERITIES: Final[Mapping[Kind, Severity]] = {
    Kind.RESIDUAL: Severity.INFO,
    Kind.LIMITS: Severity.WARNING,
    Kind.RATE: Severity.WARNING,
    Kind.STUCK: Severity.WARNING,
    Kind.SILENCE: Severity.WARNING,
}
"""Severity of a detector that does not say."""


@dataclass(frozen=True, slots=True)
class Detector:
    """`numbers`: the parameters given, and those that have a default, in their unit."""

    kind: Kind
    name: str
    severity: Severity
    numbers: Mapping[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        forms = PARAMETERS[self.kind]
        body: dict[str, Any] = {key: _written(forms[key], value) for key, value in self.numbers.items()}
        return {str(self.kind): body | {"name": self.name, "severity": self.severity.name.lower()}}


@dataclass(frozen=True, slots=True)
class Rule:
    """Which series, and how they are watched. Patterns are a name, `name.*` or `*`; role None and no labels: any."""

    metric: str = "*"
    channel: str = "*"
    role: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    detectors: tuple[Detector, ...] = ()

    def plain(self) -> dict[str, Any]:
        found: dict[str, Any] = {"metric": self.metric, "channel": self.channel}
        if self.role is not None:
            found["role"] = self.role
        if self.labels:
            found["labels"] = dict(self.labels)
        return found | {"detectors": [detector.plain() for detector in self.detectors]}


@dataclass(frozen=True, slots=True)
class Shift:
    """One incident for many devices. `group`: role, a label's name, or ALL; more than `share` of the group's devices,
    and at least `devices`, strange within `within_s`."""

    group: str
    devices: int
    share: float
    within_s: int
    severity: Severity

    def plain(self) -> dict[str, Any]:
        return {
            "group": self.group,
            "devices": self.devices,
            "share": f"{self.share * 100:.4f} %",
            "within": f"{self.within_s}s",
            "severity": self.severity.name.lower(),
        }


@dataclass(frozen=True, slots=True)
class Incidents:
    """When an incident ends, and for how long the same cause then opens no other."""

    quiet_s: int = 900
    cool_down_s: int = 3600

    def plain(self) -> dict[str, Any]:
        return {"quiet": f"{self.quiet_s}s", "cool_down": f"{self.cool_down_s}s"}


@dataclass(frozen=True, slots=True)
class Detectors:
    """The first rule that fits a series counts, others do not; a series that none fits is not watched."""

    rules: tuple[Rule, ...] = ()
    shifts: tuple[Shift, ...] = ()
    incidents: Incidents = field(default_factory=Incidents)

    def plain(self) -> dict[str, Any]:
        return {
            "rules": [rule.plain() for rule in self.rules],
            "shifts": [shift.plain() for shift in self.shifts],
            "incidents": self.incidents.plain(),
        }

    def encode(self) -> bytes:
        """Value of the control record `settings/anomaly`: the same bytes for equal settings."""
        return orjson.dumps(self.plain(), option=orjson.OPT_SORT_KEYS)


def _written(form: Form, value: float) -> Any:
    if form is Form.DURATION:
        return f"{value:.0f}s"
    if form is Form.PER_TIME:
        return f"{value!r}/s"
    return int(value) if form is Form.COUNT else value
