"""CSV files as `millrace detect` reads them: every row has its place, those that say nothing have a reason."""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from local.fleet.series import TIME_NAMES, VALUE_NAMES, columns_of, delimiter_of, moment
from runtime.columns.types import Float64, Int64
from runtime.errors import MillraceError


class FileError(MillraceError):
    """A file of which nothing can be read. The message names it."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that is not judged: `line` of the file, from 1."""

    line: int
    reason: str


@dataclass(slots=True)
class Table:
    """A file's rows in its order. `name`: path below the folder that was given, or the file's own.

    `times` and `values` are as the file writes them; `value` is NaN where the row is bad.
    """

    file: Path
    name: str
    times: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    time_ms: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    value: Float64 = field(default_factory=lambda: np.zeros(0))

    @property
    def shown(self) -> str:
        """The name as it can be printed: file names need not be UTF-8."""
        return self.name.encode(errors="replace").decode()


def read(file: Path, name: str, time: str | None, value: str | None) -> Table:
    """Parse a file. `time`, `value`: names of its columns; without them the usual ones, or the first two.

    Raises FileError when there is no such column, or no row that can be judged.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="replace") as source:
            lines = source.read().splitlines(keepends=True)
    except OSError as error:
        raise FileError(f"{file}: {error.strerror}") from None
    table = Table(file, name)
    moments, numbers = [], []
    for line, cells, columns in _rows(table, lines, time, value):
        text = [cells[column].strip() if column < len(cells) else "" for column in columns]
        try:
            moments.append(moment(text[0]))
            numbers.append(_number(text[1]))
        except (ValueError, OverflowError) as error:
            table.bad.append(Bad(line, str(error)))
            del moments[len(numbers) :]
            moments.append(0)
            numbers.append(math.nan)
        table.times.append(text[0])
        table.values.append(text[1])
    if len(table.bad) >= len(numbers):
        first = f"; line {table.bad[0].line}: {table.bad[0].reason}" if table.bad else ""
        raise FileError(f"{file}: no row with a time and a value{first}")
    table.time_ms, table.value = np.array(moments, np.int64), np.array(numbers)
    return table


def _rows(
    table: Table, lines: list[str], time: str | None, value: str | None
) -> Iterator[tuple[int, list[str], tuple[int, int]]]:
    """(line, cells, places of time and value) of each row that is not empty."""
    rows = csv.reader(lines, delimiter=delimiter_of(lines[0]) if lines else ",")
    columns = None
    try:
        for cells in rows:
            if not any(map(str.strip, cells)):
                continue
            if columns is None:
                columns, named = _columns(table.file, cells, time, value)
                if named:
                    continue
            yield rows.line_num, cells, columns
    except csv.Error as error:
        table.bad.append(Bad(rows.line_num, f"{error}; the rest of the file was not read"))


def _columns(file: Path, cells: list[str], time: str | None, value: str | None) -> tuple[tuple[int, int], bool]:
    """(places of time and value, whether this line names them)."""
    names = [cell.strip().lower() for cell in cells]
    asked = [name for name in (time, value) if name]
    missing = [name for name in asked if name.strip().lower() not in names]
    if missing:
        raise FileError(f"{file}: no column {_list(missing)}; its first line holds {_list(cells)}")
    found = columns_of(
        cells, [time.strip().lower()] if time else TIME_NAMES, [value.strip().lower()] if value else VALUE_NAMES
    )
    if found is None and asked:
        raise FileError(f"{file}: name both columns with --time and --value; its first line holds {_list(cells)}")
    return (found, True) if found else ((0, 1), False)


def _list(names: Sequence[str]) -> str:
    return ", ".join(repr(name.strip()[:40]) for name in names[:20])


def _number(text: str) -> float:
    if not text:
        raise ValueError("no value")
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is not finite")
    return number
