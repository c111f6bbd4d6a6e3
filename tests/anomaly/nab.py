"""The rules of the Numenta Anomaly Benchmark (v1.1, standard profile), and labelled series to apply them to."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

FALSE_POSITIVE = 0.11
_BEST = 2 / (1 + np.exp(-5)) - 1


@dataclass(frozen=True)
class Labelled:
    """A series and the rows (first, last) of the windows that hold its anomalies."""

    name: str
    time_ms: Any
    value: Any
    windows: Sequence[tuple[int, int]]


def corpus() -> Path | None:
    """The labelled half of the benchmark's data, where it lies beside the repository."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "shared" / "nab" / "windows.json").exists():
            return folder / "shared" / "nab"
    return None


def load(folder: Path) -> Iterator[Labelled]:
    for name, windows in sorted(json.loads((folder / "windows.json").read_text()).items()):
        with (folder / "data" / name).open() as file:
            rows = list(csv.DictReader(file))
        at = {row["timestamp"]: i for i, row in enumerate(rows)}
        times = [datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC).timestamp() * 1000 for row in rows]
        bounds = sorted((at[a.split(".")[0]], at[b.split(".")[0]]) for a, b in windows)
        yield Labelled(name, np.array(times, np.int64), np.array([float(row["value"]) for row in rows]), bounds)


def score(series: Sequence[Labelled], scores: Sequence[Any], threshold: float | None = None) -> float:
    """100 is perfect, 0 a detector that never fires. Without a threshold the best one is taken for all series."""
    parts = [_rows(one, found) for one, found in zip(series, scores, strict=True)]
    strange, gain, window = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    ids, window = np.unique(window, return_inverse=True)
    total = int((ids != "").sum())
    order = np.argsort(-strange, kind="stable")
    strange, gain, window = strange[order], gain[order], window[order]
    value = np.where(ids[window] == "", gain * FALSE_POSITIVE, 0.0)
    for k in np.flatnonzero(ids != ""):
        hits = np.flatnonzero(window == k)
        best = np.maximum.accumulate(np.maximum(gain[hits], -1.0))
        value[hits] = np.diff(np.append(-1.0, best))
    curve = np.append(0.0, np.cumsum(value))
    ends = np.append(0, np.flatnonzero(np.append(strange[1:] != strange[:-1], True)) + 1)
    if threshold is not None:
        return float(100 * curve[np.count_nonzero(strange >= threshold)] / (2 * total))
    return float(100 * curve[ends].max() / (2 * total))


def _rows(one: Labelled, found: Any) -> tuple[Any, Any, Any]:
    """Of each row that counts: its score, what it earns, and the window it lies in."""
    n = len(found)
    gain, window = np.full(n, -1.0), np.full(n, "", object)
    for k, (first, last) in enumerate(one.windows):
        width = last - first + 1.0
        inside = np.arange(first, last + 1)
        gain[inside] = _sigmoid(-(last - inside + 1) / width) / _BEST
        window[inside] = f"{one.name} {k}"
        after = np.arange(last + 1, one.windows[k + 1][0] if k + 1 < len(one.windows) else n)
        past = (after - last) / (width - 1.0)
        gain[after] = np.where(past > 3.0, -1.0, _sigmoid(past))
    counts = np.arange(n) >= min(int(0.15 * n), 750)
    return found[counts], gain[counts], window[counts]


def _sigmoid(x: Any) -> Any:
    return 2 / (1 + np.exp(np.minimum(5 * x, 700))) - 1


def synthetic(seed: int) -> Iterator[Labelled]:
    """Fourteen days of readings every five minutes, each series with one anomaly of its kind, or none."""
    r, n = np.random.default_rng(seed), 4032
    t = np.arange(n)
    day = np.sin(2 * np.pi * (t / 288 - 0.3))
    work = np.where((t % 288 > 100) & (t % 288 < 200), 60.0, 0.0)
    spikes = np.where(r.random(n) < 0.01, r.uniform(1, 3, n), 0.0)
    plain = {
        "calm": 20 + day + r.normal(0, 0.2, n),
        "noisy": r.normal(0, 5, n),
        "work": 20 + work + r.normal(0, 2, n),
        "heavy": np.abs(r.standard_t(3, n)) * (2 + day),
        "spiky": spikes + r.exponential(0.05, n),
    }
    for name, value in plain.items():
        yield _labelled(f"{name}, nothing", value, None)
    at = int(r.integers(1800, 3600))
    later = t >= at
    some = later & (t < at + 100)
    for name, value in {
        "calm, spike": plain["calm"] + 4.0 * (t == at),
        "calm, shift": plain["calm"] + 2.0 * later,
        "calm, drift": plain["calm"] + 0.03 * np.clip(t - at, 0, 200),
        "calm, restless": plain["calm"] + some * r.normal(0, 1.0, n),
        "noisy, shift": plain["noisy"] + 12.0 * later,
        "noisy, restless": plain["noisy"] * np.where(some, 3.0, 1.0),
        "work, a day off": np.where((t // 288 == at // 288), 20 + r.normal(0, 2, n), plain["work"]),
        "work, at night": plain["work"] + np.where((t // 288 == at // 288) & (t % 288 < 60), 50.0, 0.0),
        "heavy, burst": plain["heavy"] + some * 40.0,
        "spiky, dense": plain["spiky"] + some * np.where(r.random(n) < 0.3, r.uniform(1, 3, n), 0.0),
    }.items():
        start = at // 288 * 288 + 100 if "a day off" in name else at // 288 * 288 if "at night" in name else at
        yield _labelled(name, value, start)


def _labelled(name: str, value: Any, at: int | None) -> Labelled:
    """A window as the benchmark draws it: a tenth of the series around the anomaly."""
    n = len(value)
    windows = [] if at is None else [(at - n // 20, min(at + n // 20, n - 1))]
    return Labelled(name, 1_700_000_000_000 + np.arange(n) * 300_000, value, windows)
