"""Files judged row by row, and written with a score."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from local.fleet import series
from operations.detect.files import FileError, Table, read
from runtime.columns.types import Float64
from streams.anomaly.series import ALERT, Found
from streams.anomaly.series import judge as judge_series


@dataclass(frozen=True, slots=True)
class Judged:
    """A file and what was found in it: `score` on the scale of the threshold that was asked for."""

    table: Table
    found: Found
    score: Float64

    @property
    def alerts(self) -> Any:
        """Rows."""
        return np.flatnonzero(self.found.alert)


def judge(file: Path, name: str, threshold: float = ALERT, time: str | None = None, value: str | None = None) -> Judged:
    """Judge a file; see files.read. Raises FileError."""
    table = read(file, name, time, value)
    judged = judge_series(table.time_ms, table.value, threshold)
    return Judged(table, judged.found, judged.score)


def judge_all(
    paths: Sequence[Path],
    threshold: float = ALERT,
    time: str | None = None,
    value: str | None = None,
    distinct: bool = False,
) -> tuple[list[Judged], list[str]]:
    """Files, and all CSV files below folders; and what was wrong with those that cannot be read.

    `distinct`: their names must differ, since each will be written below one folder. Raises FileError.
    """
    judged, broken = list[Judged](), list[str]()
    for file, name in _files(paths, distinct):
        try:
            judged.append(judge(file, name, threshold, time, value))
        except FileError as error:
            broken.append(str(error))
    return judged, broken


def _files(paths: Sequence[Path], distinct: bool) -> list[tuple[Path, str]]:
    found = series.find(tuple(paths))
    names = [name for _, name in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if distinct and twice:
        raise FileError(f"--out: several files would be written as {', '.join(twice[:5])}; give one folder at a time")
    return found


def write(one: Judged, folder: Path) -> None:
    """Write the rows with columns anomaly_score and alert below a folder, under the file's name. Raises FileError."""
    file = folder / one.table.name
    alerts = one.found.alert.astype(int).tolist()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", newline="", encoding="utf-8") as target:
            rows = csv.writer(target, lineterminator="\n")
            rows.writerow(("timestamp", "value", "anomaly_score", "alert"))
            rows.writerows(zip(one.table.times, one.table.values, one.score.tolist(), alerts, strict=True))
    except OSError as error:
        raise FileError(f"--out: {file}: {error.strerror}") from None
