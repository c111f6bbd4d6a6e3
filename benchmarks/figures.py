"""The form of a figure and the tools to take one: medians of several runs, rivals in the same run."""

import resource
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured figure. `baseline` names what it is compared with; `ratio` is baseline over value unless given."""

    name: str
    value: float
    unit: str
    baseline: str = ""
    baseline_value: float | None = None
    ratio: float | None = None

    def line(self) -> dict[str, Any]:
        """The JSON object of design: name, value, unit, baseline, baseline_value, ratio; numbers to four digits."""
        ratio = self.ratio
        if ratio is None and self.baseline_value is not None and self.value:
            ratio = self.baseline_value / self.value
        return {
            "name": self.name,
            "value": _short(self.value),
            "unit": self.unit,
            "baseline": self.baseline,
            "baseline_value": _short(self.baseline_value),
            "ratio": _short(ratio),
        }


def _short(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.4g}")


def cpu_s() -> float:
    """CPU seconds, user and system, of this process and all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cpu_of_s(pid: int) -> float:
    """CPU seconds, user and system, of another process, to the kernel's tick (10 ms)."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def median_of(runs: int, measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(runs))
