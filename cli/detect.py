"""`millrace detect`: the residual detector over CSV files, to try it on one's own data in a minute."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import orjson
from rich.console import Console
from rich.table import Table as Shown

from operations.detect import FileError, Judged, Table, judge_all, write
from streams.anomaly.series import ALERT, WARM_UP

_MOST_BAD: Final = 20
"""So many bad rows of a file are named, the others counted."""

_WIDE: Final = 400
"""Columns of a table that no terminal shows."""


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE.csv…")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row, instead of a table of alerts.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="OUT.png", help="Draw it.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write each file with a column anomaly_score to DIR, laid out as the folder that was given.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=ALERT,
    show_default=True,
    help="Scores from here on are alerts. The default is the detector's own.",
)
@click.option("--time", metavar="NAME", help="The column of times, if not timestamp, time, datetime, date or ts.")
@click.option("--value", metavar="NAME", help="The column of values, if not value.")
def detect(
    paths: tuple[Path, ...],
    as_json: bool,
    plot: Path | None,
    out: Path | None,
    threshold: float,
    time: str | None,
    value: str | None,
) -> None:
    """Find anomalies in CSV files of timestamp,value: each file is a series. A folder means all CSV below it.

    Times are ISO 8601, or seconds or ms since 1970. Rows are judged in their order, each by those before it, by the
    code that judges the stream. Rows that cannot be read are named on standard error and skipped.

    Example: millrace detect machine.csv --plot machine.png
    """
    judged, broken = judge_all(paths, threshold, time, value, distinct=out is not None)
    for one in judged:
        _complain(one.table)
    try:
        _print(judged, as_json)
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = None
    if out is not None:
        for one in judged:
            write(one, out)
    if plot is not None and judged:
        _plot(plot, judged, threshold)
    if broken:
        raise FileError("\n".join(broken))


def _complain(table: Table) -> None:
    for bad in table.bad[:_MOST_BAD]:
        click.echo(f"{table.file}:{bad.line}: {bad.reason}", err=True)
    if len(table.bad) > _MOST_BAD:
        click.echo(f"{table.file}: {len(table.bad) - _MOST_BAD} more bad rows", err=True)


def _print(judged: list[Judged], as_json: bool) -> None:
    if as_json:
        for one in judged:
            sys.stdout.buffer.writelines(_lines(one, len(judged) > 1))
        sys.stdout.flush()
        return
    _show(judged)


def _lines(one: Judged, with_file: bool) -> Iterator[bytes]:
    """A line a row, bad ones too: `value`, `low` and `high` are null where there is none."""
    file = {"file": one.table.shown} if with_file else {}
    columns = one.table.value, one.score, one.found.alert, one.found.low, one.found.high
    for time, value, score, alert, low, high in zip(
        one.table.times, *(column.tolist() for column in columns), strict=True
    ):
        row = {"timestamp": time, "value": value, "score": score, "alert": alert, "low": low, "high": high}
        yield orjson.dumps(file | row, option=orjson.OPT_APPEND_NEWLINE)


def _show(judged: list[Judged]) -> None:
    shown = Shown(box=None, header_style="bold", pad_edge=False)
    several = len(judged) > 1
    for name in (["file"] if several else []) + ["time", "value", "usual", "score", "strange"]:
        shown.add_column(name, justify="right" if name in ("value", "score") else "left", overflow="fold")
    for one in judged:
        for row in one.alerts.tolist():
            usual = f"{one.found.low[row]:.5g} … {one.found.high[row]:.5g}"
            cells = one.table.times[row], f"{one.table.value[row]:.6g}", usual, f"{one.score[row]:.3f}"
            shown.add_row(*([one.table.shown] if several else []), *cells, one.found.strangest(row))
    if shown.row_count:
        Console(width=None if sys.stdout.isatty() else _WIDE).print(shown)
    rows, alerts = sum(len(one.score) for one in judged), sum(len(one.alerts) for one in judged)
    files = f" of {len(judged)} files" if several else ""
    click.echo(f"{alerts} alerts in {rows:,} rows{files}; the first {WARM_UP} rows of a file only teach", err=True)


def _plot(file: Path, judged: list[Judged], threshold: float) -> None:
    try:
        from operations.detect.plot import draw
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise FileError("--plot needs matplotlib: pip install 'millrace[local]'") from None
    draw(file, judged, threshold)
