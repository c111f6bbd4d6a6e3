"""The residual detector on labelled series: one setting for all of them, no knowledge of any."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streams.anomaly.core.residual import ALERT, Residual
from tests.anomaly import nab
from tests.anomaly.nab import Labelled

CORPUS = nab.corpus()
needs_corpus = pytest.mark.skipif(
    CORPUS is None, reason="shared/nab is not beside the repository: only synthetic series are judged"
)


def judged(series: Sequence[Labelled]) -> list[Any]:
    return [Residual(1).step(np.zeros(len(s.value), np.int32), s.time_ms, s.value).score for s in series]


@pytest.fixture(scope="module")
def real() -> tuple[list[Labelled], list[Any]]:
    assert CORPUS is not None
    series = list(nab.load(CORPUS))
    return series, judged(series)


@needs_corpus
def test_the_benchmark_is_passed_at_the_best_threshold_and_at_our_own(real: tuple[list[Labelled], list[Any]]) -> None:
    assert nab.score(*real) >= 68
    assert nab.score(*real, ALERT) >= 62


@needs_corpus
def test_each_half_of_the_benchmark_is_passed_at_our_own_threshold(real: tuple[list[Labelled], list[Any]]) -> None:
    series, scores = real
    for half in (slice(0, None, 2), slice(1, None, 2)):
        assert nab.score(series[half], scores[half], ALERT) >= 62


@needs_corpus
def test_the_rules_here_are_those_of_the_scorer(real: tuple[list[Labelled], list[Any]], tmp_path: Path) -> None:
    assert CORPUS is not None
    for one, scores in zip(*real, strict=True):
        file = tmp_path / one.name
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(["anomaly_score", *map(repr, scores.tolist())]) + "\n")
    for threshold in (None, ALERT):
        asked = [] if threshold is None else ["--threshold", str(threshold)]
        command = [sys.executable, str(CORPUS / "score.py"), str(tmp_path), *asked]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert float(told.split()[1]) == pytest.approx(nab.score(*real, threshold), abs=0.006)


def drawn() -> Iterator[Labelled]:
    for seed in range(2):
        yield from (Labelled(f"{seed} {s.name}", s.time_ms, s.value, s.windows) for s in nab.synthetic(seed))


def test_anomalies_of_every_kind_are_found_in_synthetic_series() -> None:
    series = list(drawn())
    scores = judged(series)
    assert nab.score(series, scores, ALERT) >= 70
    kinds = sorted({s.name[2:] for s in series if s.windows})
    found = dict.fromkeys(kinds, 0)
    for one, score in zip(series, scores, strict=True):
        for first, last in one.windows:
            found[one.name[2:]] += bool((score[first : last + 1] >= ALERT).any())
    assert all(count == 2 for count in found.values()), found
