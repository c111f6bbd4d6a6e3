"""Files of the past: CSV of timestamp and value, exactly as they are, and the device ids made of their names."""

import csv
import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from runtime.errors import MillraceError
from schemas.topics import is_device_id

MAX_ID_CHARS: Final = 64
MAX_VALUE: Final = 2.0**63
"""The platform takes numbers below it on both sides."""
TIME_NAMES: Final = ("timestamp", "time", "datetime", "date", "ts")
VALUE_NAMES: Final = ("value",)
_MILLISECONDS_FROM: Final = 1e11
"""Numbers from here on are milliseconds (from 1973), smaller ones seconds (up to the year 5138)."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


class SeriesError(MillraceError):
    """A file that is not a series. The message names file and line."""


@dataclass(frozen=True, slots=True)
class Series:
    """A file's rows in its order: ms since 1970 and value. `skipped` rows had no value (empty, NaN)."""

    device: str
    file: Path
    rows: tuple[tuple[int, float], ...]
    skipped: int


def find(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """The CSV files among `paths` and below folders, each with the name that its device id is made of: its path
    below the folder that was given, or its own name. Raises SeriesError when there is none."""
    found = []
    for path in paths:
        if path.is_dir():
            found += [(file, str(file.relative_to(path))) for file in sorted(path.rglob("*.csv"))]
        elif path.exists():
            found.append((path, path.name))
        else:
            raise SeriesError(f"{path}: no such file or folder")
    if not found:
        raise SeriesError(f"no CSV file in {', '.join(map(str, paths))}")
    return list({file.resolve(): (file, name) for file, name in found}.values())


def device_ids(names: Iterable[str]) -> list[str]:
    """A device id for each name: lower case, everything else but letters, digits and dashes turned to dashes.

    Where this is too long, empty, or the same for two names, a short hash of the name is added, so that an id depends
    on its name and on who else would have it, never on the order.
    """
    names = list(names)
    plain = [_plain(name) for name in names]
    return [
        one if len(one) <= MAX_ID_CHARS and one and plain.count(one) == 1 else _hashed(one, name)
        for one, name in zip(plain, names, strict=True)
    ]


def _plain(name: str) -> str:
    stem = name[:-4] if name.lower().endswith(".csv") else name
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")


def _hashed(plain: str, name: str) -> str:
    mark = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    found = f"{plain[: MAX_ID_CHARS - 9].rstrip('-')}-{mark}".lstrip("-")
    assert is_device_id(found)
    return found


def read(file: Path, device: str) -> Series:
    """Parse a file. The first line may name the columns (`timestamp`, `value`), else the first two are taken.

    Times are ISO 8601 (UTC unless they say) or numbers, seconds or milliseconds; finer than a millisecond is cut off.
    Raises SeriesError with file and line for anything that is no row, before anything is sent.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as source:
            lines = source.read().splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise SeriesError(f"{file}: {error}") from None
    delimiter = delimiter_of(lines[0]) if lines else ","
    table = csv.reader(lines, delimiter=delimiter)
    columns: tuple[int, int] | None = None
    rows: list[tuple[int, float]] = []
    skipped = 0
    for cells in table:
        if not any(cell.strip() for cell in cells):
            continue
        if columns is None:
            columns = columns_of(cells)
            if columns is not None:
                continue
            columns = (0, 1)
        row = _row(cells, columns, f"{file}:{table.line_num}")
        if row is None:
            skipped += 1
        else:
            rows.append(row)
    if not rows:
        raise SeriesError(f"{file}: no row with a time and a value")
    return Series(device, file, tuple(rows), skipped)


def delimiter_of(line: str) -> str:
    return max(",;\t", key=line.count)


def columns_of(
    cells: Sequence[str], time_names: Sequence[str] = TIME_NAMES, value_names: Sequence[str] = VALUE_NAMES
) -> tuple[int, int] | None:
    """Places of time and value when this is a line of names, in capitals or not, else None."""
    names = [cell.strip().lower() for cell in cells]
    times = [names.index(name) for name in time_names if name in names]
    values = [names.index(name) for name in value_names if name in names]
    if times and values:
        return times[0], values[0]
    if times and len(names) == 2:
        return times[0], 1 - times[0]
    return None


def _row(cells: list[str], columns: tuple[int, int], where: str) -> tuple[int, float] | None:
    """(ms, value); None for a row without a value."""
    if len(cells) <= max(columns):
        raise SeriesError(f"{where}: expected a time and a value, found {len(cells)} columns")
    time_text, value_text = (cells[column].strip() for column in columns)
    if not value_text:
        return None
    try:
        value = float(value_text)
    except ValueError:
        raise SeriesError(f"{where}: {value_text[:40]!r} is not a number") from None
    if math.isnan(value):
        return None
    if not -MAX_VALUE < value < MAX_VALUE:
        raise SeriesError(f"{where}: {value_text[:40]} is infinite or beyond 2^63: such numbers are not supported")
    try:
        return moment(time_text), value + 0.0  # -0.0 is stored as 0.0
    except ValueError as error:
        raise SeriesError(f"{where}: {error}") from None


def moment(text: str) -> int:
    """ms since 1970 of a time as files write it. Raises ValueError."""
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if math.isfinite(number):
            return int(number) if abs(number) >= _MILLISECONDS_FROM else math.floor(number * 1000)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a time (ISO 8601, or seconds or ms since 1970)") from None
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _MS
