"""Many devices of a group strange at once: one incident instead of one for each.

Groups are what the settings name: a field of the registry (role, or a label) or everything. Of each group and metric
the devices that were strange are counted in a ring of eight buckets of stream time, each device once; silences are
counted by group alone. All numbers are of this partition: the parts of the others have the same id.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from runtime.columns.registry import RegistryColumns
from runtime.columns.series import SeriesTable
from runtime.columns.types import Bool, Int64
from streams.anomaly.core import ids
from streams.anomaly.detectors import ALL, Shift

BUCKETS: Final = 8
NOTHING: Final = -1
"""Channel and metric of a silence; code of a device that has no such label."""
MAX_GROUPS: Final = 10_000
"""Rings kept at once. Those in which nothing was strange lately go at each tick; beyond it, groups are not counted."""


class Key(NamedTuple):
    """What is counted together: devices whose `field` has this code (0 for ALL), and the metric; codes of the series
    table, or NOTHING for silences."""

    field: str
    code: int
    channel: int
    metric: int

    @property
    def is_silence(self) -> bool:
        return self.metric == NOTHING


@dataclass(slots=True)
class Group:
    """`ring[b % BUCKETS]`: devices that were strange last in bucket b, up to `bucket`. `members`: devices of the group,
    counted at `members_ms`. `id` 0: no incident is open.

    Of an open one: `need`, how many devices opened it; `seen_ms`, when half as many were last strange; `worst_…` and
    `facts`, the worst point; `told_…`, as last written.
    """

    ring: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    bucket: int = -1
    members: int = 0
    members_ms: int = -1
    id: int = 0
    opened_ms: int = 0
    last_ms: int = 0
    seen_ms: int = 0
    need: int = 0
    points: int = 0
    devices: int = 0
    severity: int = 0
    worst_series: int = -1
    worst_slot: int = 0
    worst_ms: int = 0
    worst_value: float = 0.0
    worst_score: float = 0.0
    low: float = 0.0
    high: float = 0.0
    facts: list[float] = field(default_factory=lambda: [0.0] * 3)
    told_devices: int = 0
    told_ms: int = 0

    @property
    def count(self) -> int:
        return sum(self.ring)

    def advance(self, now_ms: int, width_ms: int) -> None:
        """Forget what left the window."""
        bucket = now_ms // width_ms
        for gone in range(max(self.bucket, bucket - BUCKETS) + 1, bucket + 1):
            self.ring[gone % BUCKETS] = 0
        self.bucket = max(self.bucket, bucket)

    def add(self, before_ms: Int64, now_ms: int, width_ms: int) -> None:
        """Devices are strange now; `before_ms`: when each was before, -1 for never."""
        self.advance(now_ms, width_ms)
        before = before_ms // width_ms
        inside = (before_ms >= 0) & (before > self.bucket - BUCKETS) & (before <= self.bucket)
        for bucket in before[inside].tolist():
            self.ring[bucket % BUCKETS] = max(0, self.ring[bucket % BUCKETS] - 1)
        self.ring[self.bucket % BUCKETS] += len(before_ms)


class Shifts:
    """The groups of one partition."""

    def __init__(self) -> None:
        self.groups: dict[Key, Group] = {}

    def open(self) -> Iterator[tuple[Key, Group]]:
        return ((key, group) for key, group in self.groups.items() if group.id)

    def count(
        self, shift: Shift, codes: Any, channel: Int64, metric: Int64, before_ms: Int64, now_ms: int
    ) -> list[tuple[Key, Group, Bool]]:
        """Count strange series in their groups of one field. Columns are by series; `codes` NOTHING: in no group.

        Returns the groups they are in, and which of them are.
        """
        found = []
        width_ms = bucket_ms(shift)
        for code, its_channel, its_metric in sorted(
            set(zip(codes.tolist(), channel.tolist(), metric.tolist(), strict=True))
        ):
            key = Key(shift.group, code, its_channel, its_metric)
            if code == NOTHING or (key not in self.groups and len(self.groups) >= MAX_GROUPS):
                continue
            here = (codes == code) & (channel == its_channel) & (metric == its_metric)
            group = self.groups.setdefault(key, Group())
            group.add(before_ms[here], now_ms, width_ms)
            found.append((key, group, here))
        return found

    def forget(self, shifts: tuple[Shift, ...], now_ms: int) -> None:
        """Drop groups in which nothing was strange lately."""
        width = {shift.group: bucket_ms(shift) for shift in shifts}
        for key, group in list(self.groups.items()):
            if not group.id:
                if key.field in width:
                    group.advance(now_ms, width[key.field])
                if key.field not in width or not group.count:
                    del self.groups[key]

    def stored(self) -> list[Any]:
        """For a snapshot's meta; NaN becomes null there."""
        return [[list(key), asdict(group)] for key, group in self.groups.items()]

    def restore(self, stored: list[Any]) -> None:
        self.groups = {Key(*key): Group(**{k: _number(v) for k, v in group.items()}) for key, group in stored}


def _number(stored: Any) -> Any:
    if isinstance(stored, list):
        return [_number(value) for value in stored]
    return math.nan if stored is None else stored


def bucket_ms(shift: Shift) -> int:
    return max(1, 1000 * shift.within_s // BUCKETS)


def codes_of(registry: RegistryColumns, shift: Shift, devices: Any) -> Any:
    """Code of each device's group; NOTHING where it has none."""
    return np.zeros(len(devices), np.int32) if shift.group == ALL else registry.values(shift.group, devices)


def in_group(key: Key, registry: RegistryColumns, table: SeriesTable, series: Any) -> Bool:
    """Which of these series a group holds."""
    device = table.device_of(series)
    found = np.ones(len(device), bool) if key.field == ALL else registry.values(key.field, device) == key.code
    if not key.is_silence:
        found &= (table.channel_of(series) == key.channel) & (table.metric_of(series) == key.metric)
    return found


def begin(key: Key, group: Group, words: tuple[str, str, str], severity: int, now_ms: int) -> None:
    """Open its incident. `words`: subject, channel, metric."""
    group.id = ids.of_group(key.field, *words, now_ms)
    group.opened_ms = group.last_ms = group.seen_ms = group.worst_ms = now_ms
    group.need, group.severity = group.count, int(severity)
    group.points = group.devices = group.told_devices = 0
    group.worst_series, group.worst_score = -1, 0.0
    group.worst_value = group.low = group.high = math.nan
