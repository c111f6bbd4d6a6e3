"""What devices measure: base, daily swing, trend and noise, with faults on top. Tables of (message, metric)."""

from typing import Final

import numpy as np
import numpy.typing as npt

from local.fleet.faults import Faults
from local.fleet.kinds import Metric
from local.fleet.population import Population

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]

DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
_WARMEST: Final = 0.375
"""Part of the day by which a sine is turned so that its top is at 15:00 UTC: 15/24 - 1/4."""


class Signals:
    """Values of everybody in the population, members first. Draws base values once; noise comes from the caller."""

    def __init__(self, population: Population, faults: Faults, start_ms: int, random: np.random.Generator) -> None:
        metrics = [m.kind.metrics for m in population.everybody]
        self._base = _column(metrics, "base") + _column(metrics, "spread") * random.uniform(-1, 1, (len(metrics), 3))
        self._swing, self._noise = _column(metrics, "swing"), _column(metrics, "noise")
        self._slope = _column(metrics, "slope_per_h")
        self._turn = _WARMEST + random.uniform(-0.02, 0.02, len(metrics))
        self._start_ms = start_ms
        self._faults = faults
        self._members = np.arange(len(population.members))
        self._held = self.held(faults)

    def held(self, faults: Faults) -> Float:
        """What members show that are stuck from the begin of their fault on: float64[members, METRICS]."""
        return self._smooth(self._members, faults.from_ms)

    def measure(self, device: Int, time_ms: Int, noise: np.random.Generator) -> Float:
        """Values of members with noise and faults: float64[messages, METRICS]."""
        values = self.measure_child(device, time_ms, noise)
        self._faults.apply(device, time_ms, values, self._held)
        return values

    def measure_child(self, device: Int, time_ms: Int, noise: np.random.Generator) -> Float:
        """The same for anybody, without faults."""
        found: Float = self._smooth(device, time_ms) + self._noise[device] * noise.standard_normal((len(device), 3))
        return found

    def _smooth(self, device: Int, time_ms: Int) -> Float:
        day = np.sin(2 * np.pi * (time_ms / DAY_MS - self._turn[device]))
        hours = (time_ms - self._start_ms) / _HOUR_MS
        found: Float = self._base[device] + self._swing[device] * day[:, None] + self._slope[device] * hours[:, None]
        return found


def _column(metrics: list[tuple[Metric, Metric, Metric]], field: str) -> Float:
    return np.array([[getattr(m, field) for m in three] for three in metrics], np.float64)
