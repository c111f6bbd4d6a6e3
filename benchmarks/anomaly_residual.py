"""CPU µs a reading of the residual detector alone, its state, and its score on the Numenta Anomaly Benchmark.

Records of 1,000 readings: of 1,000 series, of 500 twice, and of one. No Kafka and no Arrow: the whole stage is measured
by benchmarks/anomaly.py. The rival is river's half-space trees (25 trees, window 250, its defaults), a reading at a
time, in the same run, where river is installed. The benchmark's score is taken where its data lies beside the
repository; what was published for others is on the whole corpus, of which that is one half.
"""

import random
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

from benchmarks.figures import Figure
from streams.anomaly.core.residual import ALERT, Residual
from tests.anomaly import nab

SERIES = 100_000
ROWS = 1_000
RUNS = 50
ONE_SERIES_RUNS = 12
RIVAL_READINGS = 3_000
ARTIME = 74.9


def cost_us(detector: Residual, ids: Any, runs: int) -> float:
    """CPU µs a reading: the least of `runs` records, each a minute after the one before."""
    r, best = np.random.default_rng(2), float("inf")
    for run in range(runs):
        time_ms = np.full(len(ids), 1_790_000_000_000 + run * 60_000, np.int64)
        value = r.normal(20, 2, len(ids))
        begin = time.process_time()
        detector.step(ids, time_ms, value)
        best = min(best, time.process_time() - begin)
    return best / len(ids) * 1e6


def rival_us() -> float | None:
    """CPU µs a reading of river's half-space trees, scoring and learning; None where it is not installed."""
    try:
        from river.anomaly import HalfSpaceTrees
    except ModuleNotFoundError:
        return None
    trees, r = HalfSpaceTrees(n_trees=25, seed=1), random.Random(1)
    values = [{"value": r.random()} for _ in range(RIVAL_READINGS)]
    begin = time.process_time()
    for value in values:
        trees.score_one(value)
        trees.learn_one(value)
    return (time.process_time() - begin) / RIVAL_READINGS * 1e6


def figures() -> Iterator[Figure]:
    """anomaly_residual_us, …_twice_us, …_one_series_us, …_bytes, and anomaly_nab where its data is."""
    r, rival = np.random.default_rng(1), rival_us()
    against = ("river half-space trees", rival) if rival is not None else ("", None)
    detector = Residual(SERIES)
    some = r.permutation(SERIES)[:ROWS].astype(np.int32)
    yield Figure("anomaly_residual_us", cost_us(detector, some, RUNS), "us/reading", *against)
    yield Figure("anomaly_residual_twice_us", cost_us(detector, np.tile(some[: ROWS // 2], 2), RUNS), "us/reading")
    one = np.full(ROWS, some[0])
    yield Figure("anomaly_residual_one_series_us", cost_us(detector, one, ONE_SERIES_RUNS), "us/reading", *against)
    size = sum(array.nbytes for array in detector.arrays().values()) / SERIES
    yield Figure("anomaly_residual_bytes", size, "bytes/series")
    corpus = nab.corpus()
    if corpus is not None:
        series = list(nab.load(corpus))
        scores = [Residual(1).step(np.zeros(len(s.value), np.int32), s.time_ms, s.value).score for s in series]
        found = nab.score(series, scores, ALERT)
        yield Figure("anomaly_nab", found, "of 100", "ARTime, published, whole corpus", ARTIME, found / ARTIME)


if __name__ == "__main__":
    for figure in figures():
        print(orjson.dumps(figure.line()).decode(), flush=True)
