"""All that aggregate knows of one partition, and what follows from each record."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Final

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.registry import RegistryColumns
from runtime.columns.series import SeriesTable
from runtime.columns.types import Int32, Int64
from runtime.stage.contract import Frozen, Output, Record
from runtime.stage.inband import InBand, key_of, version_of
from schemas import aggregates, ipc, readings
from schemas.control import settings_key
from schemas.headers import DerivedHeaders, number
from schemas.topics import AGGREGATES
from schemas.vocabulary import Kind
from streams.aggregate.core import partials, rows
from streams.aggregate.core.closing import Closing
from streams.aggregate.core.partials import OPEN
from streams.aggregate.core.readings import Readings, select
from streams.aggregate.core.windows import Windows
from streams.aggregate.windowing import Windowing, decode

MOST_OPEN: Final = 1 << 21
"""Open windows of a partition above which the oldest are written early."""
MOST_CLOSED: Final = 1 << 16
"""Windows that one record closes; the others that are due follow with the next records. So no tick stops the flow."""
NOT_A_NUMBER: Final = "not_a_number"
"""Why a reading is refused: NaN, which no payload format of ours lets through."""
FAULT: Final = "fault"
"""Why a reading is refused: this code raised on it, see the log."""
_SCHEMA: Final = f"{aggregates.NAME}/{aggregates.VERSION}"
_COUNTED: Final = ("readings", "folded", "texts", "refused")
"""Of everything since the record before; see schemas.aggregates."""


@dataclass(slots=True)
class Seen:
    """What came of the last record, for metrics: readings `folded`, `texts`, `refused` by reason, partials written by
    part, and those `late` that went into windows already written."""

    folded: int = 0
    texts: int = 0
    late: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    written: Counter[int] = field(default_factory=Counter)


class State:
    """One partition. `time_ms` is stream time, `open` the readings that were folded and not written yet. All windows
    that ended by `passed_ms` were closed; what comes for one of them is late, the first such at `late_since` (None:
    nothing is). `closing`: what is being done to get to `time_ms`."""

    def __init__(self) -> None:
        self.seen = Seen()
        self.time_ms = self.passed_ms = 0
        self.open = 0
        self.late_since: int | None = None
        self.closing: Closing | None = None
        self.counts: Counter[str] = Counter()
        self.settings = InBand(settings_key("aggregate"), decode, Windowing())
        self.series = SeriesTable()
        self.registry = RegistryColumns(self.series.devices)
        self.windows = Windows()
        self.pending = rows.waiting()
        self._settle(self.settings.value)

    def apply(self, record: Record) -> Sequence[Output]:
        """What is to be written now. Raises ContractError for a broken record."""
        self.seen = Seen()
        if record.kind is Kind.DATA:
            self._data(readings.read(record.headers, record.value), record.refused)
        elif record.kind is Kind.TICK:
            self.time_ms = max(self.time_ms, number(record.headers, "time"))
        else:
            self._control(record)
        self._go_on_closing()
        return self._outputs(record.kind)

    # --- records

    def _data(self, batch: Any, left_out: int) -> None:
        found = select(batch)
        numbered = self.series.number(batch, found.rows)
        self.seen.refused = numbered.refused
        if found.not_numbers:
            self.seen.refused[NOT_A_NUMBER] += found.not_numbers
        if left_out:
            self.seen.refused[FAULT] += left_out
        kept = numbered.series >= 0
        self.seen.texts, self.seen.folded = found.texts, int(kept.sum())
        if kept.all():
            self._fold(numbered.series, found)
        elif kept.any():
            self._fold(numbered.series[kept], found.only(kept))
        refused = self.seen.refused.total()
        counts = {"folded": self.seen.folded, "texts": self.seen.texts, "refused": refused}
        self.counts.update(counts | {"readings": sum(counts.values())})

    def _fold(self, series: Int32, found: Readings) -> None:
        if not len(series):
            return
        window = found.times // self.window_ms
        self._note_late(window)
        self.windows.fold(series, window, found.times, found.values, self.settings.value.sketch)
        self.open += len(series)
        if self.windows.open > MOST_OPEN:
            self._close_oldest()

    def _note_late(self, window: Int64) -> None:
        if self._end(int(window.min())) <= self.passed_ms:
            self.seen.late = int((self._end(window) <= self.passed_ms).sum())
            self.late_since = self.time_ms if self.late_since is None else self.late_since

    def _control(self, record: Record) -> None:
        before = self.settings.value
        if self.settings.take(record):
            self._settle(self.settings.value, before)
            return
        self.registry.take(key_of(record), version_of(record), record.value)

    def _settle(self, settings: Windowing, before: Windowing | None = None) -> None:
        """Go by these settings from now on. What other settings have begun is written first."""
        if before is not None and settings.makes_other_windows_than(before):
            self._close(positions(self.windows.is_open()), Closing.of_all(self.passed_ms))
            self.closing, self.late_since = None, None
        self.window_ms, self.grace_ms = 1000 * settings.window_s, 1000 * settings.grace_s
        rows.bound(self.pending, len(settings.groups))

    # --- windows

    def _end(self, window: Any) -> Any:
        """Stream time at which windows are written, ms. `window`: their index."""
        return (window + 1) * self.window_ms + self.grace_ms

    def _close_oldest(self) -> None:
        """Those made first: where history or clocks that run ahead fill the table, these are their windows."""
        count = max(self.windows.open - MOST_OPEN, min(MOST_CLOSED, MOST_OPEN // 4))
        self._close(positions(self.windows.is_open())[:count], Closing.of_all(self.passed_ms))

    def _go_on_closing(self) -> None:
        """Close what is due, or a part of it."""
        if self.closing is None:
            self.closing = self._next_closing()
        if self.closing is None:
            return
        due = positions(self.closing.due(self._end(self.windows.index())) & self.windows.is_open())
        self._close(due[:MOST_CLOSED], self.closing)
        if len(due) <= MOST_CLOSED:
            self.passed_ms, self.closing = self.closing.until, None

    def _next_closing(self) -> Closing | None:
        """What is to be done now that stream time has moved."""
        before, until, settings = self.passed_ms, self.time_ms, self.settings.value
        if until == before:
            return None
        late = self.late_since is not None and until >= self.late_since + 1000 * settings.late_s
        early_ms = 1000 * (settings.early_s or 0)
        early = bool(early_ms) and before > 0 and until // early_ms > before // early_ms
        if late:
            self.late_since = None
        elif not early and self._end(self.windows.earliest) > until:
            self.passed_ms = until
            return None
        return Closing(before, until, late, early)

    def _close(self, slots: Int64, closing: Closing, known: partials.Rows | None = None) -> None:
        """Take these slots (ascending) out, to be written. `known`: columns to take instead of the windows' own."""
        if not len(slots):
            return
        found = self.windows.close(slots) | (known or {})
        index = found.pop("index")
        found |= {
            "window_start": index * self.window_ms,
            "window_ms": np.full(len(slots), self.window_ms, np.int32),
            "part": closing.parts(self._end(index)),
        }
        self.pending.add(found)

    def _outputs(self, kind: Kind) -> Sequence[Output]:
        if kind is not Kind.TICK and not len(self.pending):
            return []
        found = self.pending.take()
        size, value, emitted = len(found["series"]), b"", int(found["count"].sum())
        if size:
            batch = rows.build(found, self.series, self.registry, self.settings.value.groups)
            size, value = len(batch), ipc.encode(batch)
            self.seen.written = Counter(dict(enumerate(np.bincount(batch.column("part").to_numpy()).tolist())))
        self.open -= emitted
        counts = [*((name, self.counts[name]) for name in _COUNTED), ("emitted", emitted), ("open", self.open)]
        self.counts.clear()
        return [Output(AGGREGATES, value, DerivedHeaders(_SCHEMA, kind, self.time_ms, size, tuple(counts)).encode())]

    # --- snapshots

    def freeze(self) -> Frozen:
        meta = {
            "time_ms": self.time_ms,
            "open": self.open,
            "passed_ms": self.passed_ms,
            "late_since": self.late_since,
            "closing": None if self.closing is None else astuple(self.closing),
            "tally": {name: self.counts[name] for name in _COUNTED},
            "settings": self.settings.stored(),
        }
        pending = self.pending.arrays()
        waiting = {f"pending_{name}": pending[name] for name in self.pending.columns}
        return Frozen(meta, self.series.freeze() | self.registry.freeze() | self.windows.freeze() | waiting)

    @classmethod
    def restored(cls, stored: Frozen, version: int) -> "State":
        """From what `freeze` of logic version 1 or 2 gave. Version 1 had sums of squares about zero and no moments:
        what it began is written first, and windows go on with another partial."""
        state, meta, arrays = cls(), stored.meta, dict(stored.arrays)
        state.time_ms, state.passed_ms = meta["time_ms"], meta["passed_ms"]
        state.open, state.late_since = meta["open"], meta["late_since"]
        state.closing = None if meta["closing"] is None else Closing(*meta["closing"])
        state.counts.update(meta["tally"])
        state.settings.restore(**meta["settings"])
        state._settle(state.settings.value)
        state.series.restore(arrays)
        state.registry.restore(arrays)
        if version == 1:
            arrays |= _with_moments(arrays, "pending_")
        state.pending.restore({name: arrays[f"pending_{name}"] for name in state.pending.columns})
        if version == 1:
            state._restore_sums(arrays)
        else:
            state.windows.restore(arrays)
        return state

    def _restore_sums(self, arrays: dict[str, Any]) -> None:
        """Close the windows of a snapshot of version 1, and write what it knows of them."""
        size = len(arrays["windows"])
        self.windows.restore(
            {f"window_{name}": nothing for name, nothing in partials.empty(size, OPEN).items()} | arrays
        )
        slots = positions(self.windows.is_open())
        known = arrays | _with_moments(arrays, "window_")
        sums = {name: known[f"window_{name}"][slots] for name in partials.MOMENTS}
        self._close(slots, Closing.of_all(self.passed_ms), sums)

    def sizes(self) -> dict[str, int]:
        parts = (self.series, self.registry, self.windows, self.pending)
        return {
            "series": self.series.size,
            "devices": self.series.devices.size,
            "windows": self.windows.open,
            "pending": len(self.pending),
            "sketch_entries": len(self.windows.sketches),
            "bytes": sum(part.nbytes for part in parts),
        }


def _with_moments(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Those of rows that have sums about zero."""
    sums = {name: arrays[prefix + name] for name in ("count", "sum", "sum_squares", "min", "max")}
    with np.errstate(divide="ignore"):  # windows that are closed have no readings
        return {prefix + name: values for name, values in aggregates.moments(**sums).items()}
