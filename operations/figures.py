"""Measured figures, as `millrace bench --json` prints them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from operations.sizing import Fleet, Keep, Size, size
from runtime.errors import MillraceError

FIGURES: Final = Path(__file__).parent / "figures.jsonl"
"""Taken on the machine that docs/benchmarks.md names."""


class MissingFigureError(MillraceError):
    """The figures are not enough for an answer."""


@dataclass(frozen=True, slots=True)
class Sized:
    """An answer, and where and when its figures were taken."""

    size: Size
    origin: str


def size_from(fleet: Fleet, keep: Keep, figures: Path | None = None) -> Sized:
    """What a fleet needs, by the figures of a file or those that come with Millrace. Raises MissingFigureError."""
    lines = (figures or FIGURES).read_text().splitlines()
    try:
        return Sized(size(fleet, keep, known(lines)), origin(lines))
    except KeyError as error:
        raise MissingFigureError(f"the figures lack {error}: take them with `millrace bench --json > FILE`") from None


def known(lines: Iterable[str]) -> dict[str, float]:
    """Figures by name. Lines of other programs are skipped."""
    rows = [orjson.loads(line) for line in lines if line.startswith("{")]
    return {str(row["name"]): float(row["value"]) for row in rows}


def origin(lines: Iterable[str]) -> str:
    """Where and when the figures were taken: the file's first line, a comment."""
    first = next(iter(lines), "")
    return first.lstrip("# ") if first.startswith("#") else "their file does not say where they were taken"
