"""All that is known of a partition: what the steps of watch.py work on, stored and restored."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from runtime.columns.registry import RegistryColumns
from runtime.columns.series import SeriesTable
from runtime.columns.types import Int32, Int64
from streams.anomaly.core.incidents import ROW, Incidents
from streams.anomaly.core.marks import Harder, Marks
from streams.anomaly.core.memory import Memory
from streams.anomaly.core.outputs import PendingRows
from streams.anomaly.core.owners import Owners
from streams.anomaly.core.plan import NO_RULE, RESIDUAL, Plan
from streams.anomaly.core.residual import WARM_UP, Residual
from streams.anomaly.core.shifts import Shifts
from streams.anomaly.detectors import SHIFT

_RESIDUAL: Final = "residual_"
_SLACK: Final = 8
"""Arrays of series have so small a part of room to spare: they are what a worker's memory holds."""
DEVICE: Final = "device"


@dataclass(slots=True)
class Seen:
    """What the last record was, for metrics. Counts are by name of the detector, `opened` by severity too."""

    readings: int = 0
    received_ms: int = 0
    points: Counter[str] = field(default_factory=Counter)
    opened: Counter[tuple[str, int]] = field(default_factory=Counter)
    closed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)


class Parts:
    """`rules`: int32[series], the rule of each; it and `harder` are made of the rest and are not stored."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.now_ms = 0
        """Stream time."""
        self.table = SeriesTable()
        self.registry = RegistryColumns(self.table.devices)
        self.memory, self.owners, self.residual = Memory(plan.width), Owners(), Residual()
        self.incidents, self.shifts, self.pending = Incidents(), Shifts(), PendingRows()
        self.marks, self.harder = Marks(), Harder()
        self.rules: Int32 = np.zeros(0, np.int32)
        self.seen = Seen()

    # --- series

    def grow(self) -> None:
        """Room and rules for series that are new."""
        size, known = self.table.size, len(self.rules)
        self.owners.grow(len(self.table.devices.words))
        if size > self.memory.capacity:
            capacity = max(1024, size + size // _SLACK)
            self.memory.grow(capacity)
            self.residual.grow(capacity)
        if size > known:
            self.rules = np.concatenate([self.rules, self.rules_of(self.plan, np.arange(known, size))])
            if self.marks.levels:
                self.harden()

    def rules_of(self, plan: Plan, series: Int64) -> Int32:
        """The rule of each of these series in a plan, by the registry as it is."""
        table, metrics = self.table, max(1, len(self.table.metrics))
        kind = self.registry.kinds()[table.device_of(series)].astype(np.int64) + 1
        kinds = int(kind.max(initial=0)) + 1
        names = table.channel_of(series) * metrics + table.metric_of(series)
        distinct, which = np.unique(names * kinds + kind, return_inverse=True)
        found = []
        for key in distinct.tolist():
            name, its_kind = divmod(key, kinds)
            channel, metric = divmod(name, metrics)
            fields = self.registry.kind(its_kind - 1)
            found.append(plan.rule(table.channels.word(channel), table.metrics.word(metric), fields))
        return np.array(found, np.int32)[which]

    def harden(self) -> None:
        """Rebuild `harder`: marks, series or settings have changed."""
        marked = []
        for (scope, device, channel, metric, name), level in self.marks.levels.items():
            series = self.table.find_one(device, channel, metric) if scope == DEVICE and name != SHIFT else NO_RULE
            if series >= 0:
                marked.append((series, name, level))
        self.harder.build(self.plan, self.rules, marked)

    # --- snapshots

    def freeze(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(what JSON can say of it, its arrays, live or views: copy before the next step)."""
        meta = {"now_ms": self.now_ms, "marks": self.marks.stored(), "shifts": self.shifts.stored()}
        size = self.table.size
        arrays = {
            **self.table.freeze(),
            **self.registry.freeze(),
            **self.memory.arrays(size),
            **self.owners.arrays(self.table.devices.size),
            **{_RESIDUAL + name: array[:size] for name, array in self.residual.arrays().items()},
            **self.pending.arrays(),
            "incidents": np.frombuffer(self.incidents.rows.tobytes(), np.uint8),
        }
        return meta, arrays

    @classmethod
    def restored(cls, plan: Plan, meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> "Parts":
        """What `freeze` gave, with the settings that were in force."""
        parts = cls(plan)
        parts.now_ms = meta["now_ms"]
        parts.marks.restore(**meta["marks"])
        parts.shifts.restore(meta["shifts"])
        parts.table.restore(arrays)
        parts.registry.restore(arrays)
        parts.memory.restore(arrays)
        parts.owners.restore(arrays)
        own = {name: arrays[_RESIDUAL + name] for name in parts.residual.arrays()}
        parts.residual = Residual.restored(own)
        parts.pending.restore(arrays)
        parts.incidents.rows = np.frombuffer(arrays["incidents"].tobytes(), ROW).copy()
        parts.grow()
        return parts

    def sizes(self) -> dict[str, int]:
        """Figures for metrics."""
        size = self.table.size
        others = (*self.residual.arrays().values(), self.rules, self.incidents.rows)
        parts = (self.table, self.memory, self.owners, self.registry, *others)
        warming = self.memory.readings[:size] < WARM_UP if self.plan.has(RESIDUAL) else np.zeros(0, bool)
        return {
            "series": size,
            "warming": int(np.count_nonzero(warming)),
            "silent": int(np.count_nonzero(self.memory.silent[:size])),
            "incidents": self.incidents.open,
            "shifts": sum(1 for _ in self.shifts.open()),
            "marked": len(self.marks.levels),
            "waiting": len(self.pending.anomalies) + len(self.pending.incidents),
            "bytes": sum(part.nbytes for part in parts),
        }
