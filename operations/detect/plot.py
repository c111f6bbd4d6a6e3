"""The picture of `millrace detect --plot`: for each file its values in the expected range, and the score below."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from operations.detect.files import FileError, Table
from operations.detect.judged import Judged
from runtime.columns.types import Float64
from streams.anomaly.series import Found

MOST_FILES: Final = 40
"""In one picture."""
_WIDTH_IN: Final = 13.0
_HEIGHT_IN: Final = 3.6
_INK, _RANGE, _ALERT, _QUIET = "#24364b", "#8fb4d9", "#c8341d", "#7a8794"


def draw(file: Path, judged: Sequence[Judged], threshold: float) -> None:
    """Write a PNG, files below each other. Raises FileError when there are too many, or it cannot be written."""
    if len(judged) > MOST_FILES:
        raise FileError(f"--plot: {len(judged)} files are too many for one picture; at most {MOST_FILES}")
    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN * len(judged)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * len(judged), 1, squeeze=False, height_ratios=[3, 1] * len(judged))[:, 0]
    for k, one in enumerate(judged):
        _panel(axes[2 * k], axes[2 * k + 1], one.table, one.found, one.score, threshold)
    try:
        figure.savefig(file, dpi=110, format="png")
    except OSError as error:
        raise FileError(f"{file}: {error.strerror}") from None


def _panel(values: Axes, scores: Axes, table: Table, found: Found, score: Float64, threshold: float) -> None:
    good = np.flatnonzero(np.isfinite(table.value))
    time: Any = table.time_ms[good].astype("datetime64[ms]")
    value, alert = table.value[good], found.alert[good]
    low, high = found.low[good], found.high[good]
    values.fill_between(time, low, high, color=_RANGE, alpha=0.45, lw=0, label="expected")
    values.plot(time, value, color=_INK, lw=0.8, label="value")
    values.plot(time[alert], value[alert], "o", color=_ALERT, ms=5, mec="white", mew=0.7, label="alert")
    values.set_ylim(*_limits(value))
    values.set_title(f"{table.shown}: {int(alert.sum())} alerts in {len(table.value):,} rows", loc="left", fontsize=10)
    values.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=8, borderaxespad=0.2)
    values.tick_params(labelbottom=False)
    scores.fill_between(time, 0.0, score[good], color=_QUIET, lw=0, step="mid")
    scores.vlines(time[alert], 0.0, score[good][alert], color=_ALERT, lw=1.2)
    scores.axhline(threshold, color=_ALERT, lw=0.7, ls=(0, (4, 3)))
    scores.set_ylim(0.0, 1.0)
    scores.set_ylabel("score", fontsize=8)
    scores.sharex(values)
    values.set_xlim(time.min(), time.max() + np.timedelta64(1, "ms"))
    locator = AutoDateLocator()
    scores.xaxis.set_major_locator(locator)
    scores.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    for axes in (values, scores):
        axes.tick_params(labelsize=8, color=_QUIET)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_QUIET)


def _limits(value: Float64) -> tuple[float, float]:
    """The values decide, not the expected range: it is wide after a jump."""
    low, high = float(value.min()), float(value.max())
    room = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return low - room, high + room
