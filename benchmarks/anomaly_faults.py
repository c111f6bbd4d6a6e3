"""What the residual detector finds and what it raises for nothing on the fleet's signals: no Kafka, no other detector.

Devices of each kind with three metrics, read every five minutes for 20 days, of which two are warm-up; then the same
with a fault in every series: a spike for a hundredth of the time, a drift or a stuck sensor for a tenth to a third. The
threshold is twice the detector's own, as docs/detection.md advises for a fleet.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from benchmarks.figures import Figure
from local.fleet.kinds import CLIMATE, METER, MOTOR
from streams.anomaly.core.residual import Residual

DEVICES: Final = 90
DAYS, WARM_UP_DAYS, PERIOD_S = 20, 2, 300
THRESHOLD: Final = 2.0
FAULTS: Final = ("spike", "drift", "stuck")
_START_MS: Final = 1_790_000_000_000
_METRICS: Final = [metric for kind in (CLIMATE, MOTOR, METER) for metric in kind.metrics]


@dataclass(frozen=True)
class Fleet:
    """Columns by series: what it measures, and its fault in readings [begin, end)."""

    smooth: Any
    noise: Any
    decimals: Any
    begin: Any
    end: Any
    size: Any

    def values(self, step: int, fault: str, r: np.random.Generator) -> Any:
        value = self.smooth(step) + self.noise * r.standard_normal(len(self.noise))
        inside = (step >= self.begin) & (step < self.end)
        if fault == "stuck":
            value = np.where(inside, self.smooth(self.begin), value)
        elif fault:
            part = (step - self.begin) / (self.end - self.begin) if fault == "drift" else 1.0
            value = value + inside * part * self.size
        return np.round(value * self.decimals) / self.decimals


def fleet(fault: str, seed: int) -> Fleet:
    r, n = np.random.default_rng(seed), DEVICES * 3
    columns = ("base", "spread", "swing", "noise", "decimals", "slope_per_h")
    metrics = [_METRICS[i % len(_METRICS)] for i in range(n)]
    base, spread, swing, noise, decimals, slope = (np.array([getattr(m, c) for m in metrics]) for c in columns)
    base, turn = base + spread * r.uniform(-1, 1, n), 0.375 + np.repeat(r.uniform(-0.02, 0.02, DEVICES), 3)

    def smooth(step: Any) -> Any:
        days = step * PERIOD_S / 86_400
        midnight = (_START_MS % 86_400_000) / 86_400_000
        return base + swing * np.sin(2 * np.pi * (midnight + days - turn)) + slope * days * 24

    steps, warm = DAYS * 86_400 // PERIOD_S, WARM_UP_DAYS * 86_400 // PERIOD_S
    begin = warm + (r.uniform(0.2, 0.65, n) * (steps - warm)).astype(int)
    length = (0.01 if fault == "spike" else r.uniform(0.1, 0.3, n)) * (steps - warm)
    size = (noise + swing / 4 + 0.01) * r.uniform(12, 24, n)
    return Fleet(smooth, noise, 10.0**decimals, begin, begin + np.ceil(length), size)


def judged(fault: str) -> tuple[int, Any]:
    """(alerts before the faults, which series raised one during its own)."""
    one, r, n = fleet(fault, 7), np.random.default_rng(11), DEVICES * 3
    detector, series, threshold = Residual(n), np.arange(n, dtype=np.int32), np.full(n, THRESHOLD)
    false, found = 0, np.zeros(n, bool)
    for step in range(DAYS * 86_400 // PERIOD_S):
        time_ms = np.full(n, _START_MS + step * PERIOD_S * 1000)
        alert = detector.step(series, time_ms, one.values(step, fault, r), threshold).alert
        if step * PERIOD_S >= WARM_UP_DAYS * 86_400:
            false += int((alert & ((step < one.begin) | (not fault))).sum())
        found |= alert & (step >= one.begin) & (step < one.end)
    return false, found


def figures() -> Iterator[Figure]:
    """anomaly_false_alerts of a fleet without faults, anomaly_found_spike, …_drift, …_stuck."""
    false, _ = judged("")
    device_days = DEVICES * (DAYS - WARM_UP_DAYS)
    yield Figure("anomaly_false_alerts", 1000 * false / device_days, "per 1,000 device-days")
    for fault in FAULTS:
        yield Figure(f"anomaly_found_{fault}", 100 * float(judged(fault)[1].mean()), "%")


if __name__ == "__main__":
    for figure in figures():
        print(orjson.dumps(figure.line()).decode(), flush=True)
