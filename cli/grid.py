"""Rows as people read them in a terminal: a table where it fits, else a line a value. Nothing is rounded."""

from collections.abc import Sequence
from itertools import chain
from typing import Final

from rich.cells import cell_len, set_cell_size

_GAP: Final = "  "
_CONTROLS: Final = dict.fromkeys((*range(32), 127)) | {9: "\\t", 10: "\\n", 13: "\\r"}

Rows = Sequence[Sequence[str]]


def render(names: Sequence[str], numeric: Sequence[bool], rows: Rows, width: int) -> str:
    """Lines no longer than `width` where that is possible. `numeric`: columns aligned to the right."""
    clean = [[cell.translate(_CONTROLS) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(names, *clean, strict=True)]
    if sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        return _vertical(names, clean)
    return "\n".join(_line(row, widths, numeric) for row in chain([names], clean))


def _line(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    cells = [
        " " * (width - cell_len(cell)) + cell if right else set_cell_size(cell, width)
        for cell, width, right in zip(row, widths, numeric, strict=True)
    ]
    return _GAP.join(cells).rstrip()


def _vertical(names: Sequence[str], rows: Rows) -> str:
    """As ClickHouse's format Vertical."""
    width = max(map(cell_len, names))
    blocks = []
    for number, row in enumerate(rows, 1):
        lines = [f"{set_cell_size(name, width)}  {cell}".rstrip() for name, cell in zip(names, row, strict=True)]
        blocks.append("\n".join([f"Row {number}:", "─" * (width + 2), *lines]))
    return "\n\n".join(blocks) if blocks else "  ".join(names)
