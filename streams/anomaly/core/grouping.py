"""Shifts at work: which points belong to an incident of a group, when one opens, what it takes over, when it closes."""

from typing import Any, Final

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.types import Bool, Int64
from streams.anomaly.core import shifts
from streams.anomaly.core.incident_rows import changed
from streams.anomaly.core.incidents import OPEN, Event, Strange
from streams.anomaly.core.outputs import GROUP
from streams.anomaly.core.parts import Parts
from streams.anomaly.core.plan import SILENCE, SLOTS
from streams.anomaly.core.shifts import NOTHING, Group, Key
from streams.anomaly.core.silence import Silent
from streams.anomaly.detectors import ALL, SHIFT, Shift

REPORTED_POINTS: Final = 100
"""Points of a group's incident that are always written; beyond these only the first of each device."""
_UPDATE_FACTOR: Final = 2
_UPDATE_INTERVAL_MS: Final = 10_000
"""An update is written when twice as many devices are in it, and not more often than every ten seconds."""


# --- points


def cover(parts: Parts, strange: Strange) -> tuple[Any, Bool]:
    """(uint64[points], id of the group's incident that each belongs to, 0: none; whether each is written).

    All are silences, or none is.
    """
    series = strange.key // SLOTS
    found, written = np.zeros(len(series), np.uint64), np.zeros(len(series), bool)
    if not parts.plan.settings.shifts:
        return found, written
    silent = int(strange.key[0]) % SLOTS == SILENCE
    each, first, which = np.unique(series, return_index=True, return_inverse=True)
    before_ms = np.full(len(each), -1) if silent else parts.memory.strange_ms[each]
    opened = _count(parts, each, before_ms, silent)
    if not silent:
        parts.memory.strange_ms[each] = parts.now_ms
    is_first = np.zeros(len(series), bool)
    is_first[first] = True
    for key, group in _open_ones(parts, silent):
        at = positions((found == 0) & _holds(parts, key, series))
        if len(at):
            new = is_first[at] & (before_ms[which[at]] < group.opened_ms)
            written[at] = new | (group.points < REPORTED_POINTS)
            found[at] = group.id
            _add(parts, group, strange.where(at), int(np.count_nonzero(new)))
            if silent:
                parts.memory.silent[series[at]] = Silent.COVERED
    for key, group in opened:
        group.devices = group.count
        report(parts, key, group, Event.OPENED)
    return found, written


def _open_ones(parts: Parts, silent: bool) -> list[tuple[Key, Group]]:
    return [(key, group) for key, group in parts.shifts.open() if key.is_silence == silent]


def _holds(parts: Parts, key: Key, series: Any) -> Bool:
    return shifts.in_group(key, parts.registry, parts.table, series)


def _add(parts: Parts, group: Group, strange: Strange, new: int) -> None:
    group.points += len(strange.key)
    group.devices += new
    group.last_ms = int(strange.time_ms[-1])
    if 2 * group.count >= group.need:
        group.seen_ms = parts.now_ms
    _worst(group, strange, int(np.argmax(strange.score)))


def _worst(group: Group, points: Any, at: int) -> None:
    """Take a point for the worst, if it is. `points`: columns of Strange."""
    if points.score[at] > group.worst_score:
        group.worst_series, group.worst_slot = divmod(int(points.key[at]), SLOTS)
        group.worst_ms, group.worst_value = int(points.time_ms[at]), float(points.value[at])
        group.worst_score, group.facts = float(points.score[at]), points.facts[at].tolist()
        group.low, group.high = float(points.low[at]), float(points.high[at])


# --- opening


def _count(parts: Parts, series: Int64, before_ms: Int64, silent: bool) -> list[tuple[Key, Group]]:
    """Count strange series in all their groups. Returns the groups that have become too many: they are open now."""
    table = parts.table
    nothing = np.full(len(series), NOTHING)
    channel = nothing if silent else table.channel_of(series)
    metric = nothing if silent else table.metric_of(series)
    covered = np.zeros(len(series), bool)
    for key, _ in _open_ones(parts, silent):
        covered |= _holds(parts, key, series)
    opened = []
    for shift in parts.plan.settings.shifts:
        codes = shifts.codes_of(parts.registry, shift, table.device_of(series))
        for key, group, here in parts.shifts.count(shift, codes, channel, metric, before_ms, parts.now_ms):
            # what another incident explains is no reason to open one more; that of all devices explains the others
            own = key.field == ALL or 2 * np.count_nonzero(covered[here]) <= np.count_nonzero(here)
            if not group.id and own and _too_many(parts, shift, key, group):
                shifts.begin(key, group, words(parts, key), shift.severity, parts.now_ms)
                parts.seen.opened[SHIFT, group.severity] += 1
                _take_over(parts, shift, key, group)
                opened.append((key, group))
                covered |= here
    return opened


def _too_many(parts: Parts, shift: Shift, key: Key, group: Group) -> bool:
    factor = parts.marks.factor((key.field, *words(parts, key), SHIFT))
    if group.count < factor * shift.devices:
        return False
    if group.members_ms != parts.now_ms:
        group.members, group.members_ms = _members(parts, key), parts.now_ms
    return group.count > factor * shift.share * group.members


def _members(parts: Parts, key: Key) -> int:
    """Devices of the group that were ever seen with this metric."""
    every = np.arange(parts.table.size)
    inside = every[_holds(parts, key, every)]
    return len(np.unique(parts.table.device_of(inside))) if key.is_silence else len(inside)


def words(parts: Parts, key: Key) -> tuple[str, str, str]:
    """Value of the group, channel and metric."""
    subject = "" if key.field == ALL else parts.registry.word(key.field, key.code)
    if key.is_silence:
        return subject, "", ""
    return subject, parts.table.channels.word(key.channel), parts.table.metrics.word(key.metric)


def _take_over(parts: Parts, shift: Shift, key: Key, group: Group) -> None:
    """Close what this incident explains: single ones of its devices; if it is of all devices, also those of groups."""
    rows = parts.incidents.rows
    lately = (rows["state"] == OPEN) & (rows["seen_ms"] >= parts.now_ms - 1000 * shift.within_s)
    alike = (rows["key"] % SLOTS == SILENCE) == key.is_silence
    series = rows["key"] // SLOTS
    places: Int64 = positions(lately & alike & _holds(parts, key, series)) if len(rows) else np.zeros(0, np.int64)
    if len(places):
        taken = rows[places]
        peaks = Strange(taken["key"], *(taken[name] for name in ("peak_ms", "peak_value", "peak_score")), *_rest(taken))
        _worst(group, peaks, int(np.argmax(peaks.score)))
        group.points += int(taken["points"].sum())
        if key.is_silence:
            parts.memory.silent[series[places]] = Silent.COVERED
        changed(parts, [(Event.CLOSED, parts.incidents.drop(places, parts.now_ms))], part_of=group.id)
    if key.field == ALL:
        for other, inner in _open_ones(parts, key.is_silence):
            if other != key and (other.channel, other.metric) == (key.channel, key.metric):
                _close(parts, other, inner, part_of=group.id)


def _rest(rows: Any) -> tuple[Any, ...]:
    return rows["low"], rows["high"], rows["facts"], rows["severity"]


# --- updates and closing


def report(parts: Parts, key: Key, group: Group, event: Event, part_of: int = 0) -> None:
    """A row of telemetry.incidents about a group."""
    group.told_devices, group.told_ms = group.devices, parts.now_ms
    within_s = next((shift.within_s for shift in parts.plan.settings.shifts if shift.group == key.field), 0)
    values = {
        "incident": group.id,
        "event": event,
        "detector": parts.pending.words.add(SHIFT),
        "slot": group.worst_slot,
        "severity": group.severity,
        "series": GROUP,
        "time_ms": parts.now_ms,
        "opened_ms": group.opened_ms,
        "peak_ms": group.worst_ms,
        "last_ms": group.last_ms,
        "closed_ms": parts.now_ms if event is Event.CLOSED else -1,
        "peak_value": group.worst_value,
        "peak_score": group.worst_score,
        "low": group.low,
        "high": group.high,
        "facts": group.facts,
        "points": group.points,
        "devices": group.devices,
        "part_of": part_of,
        "scope": parts.pending.words.add(key.field),
        "subject": parts.pending.words.add(words(parts, key)[0]),
        "channel": key.channel,
        "metric": key.metric,
        "members": group.members,
        "within_ms": 1000 * within_s,
        "worst": group.worst_series,
    }
    unsigned = ("incident", "part_of")
    parts.pending.changed({k: np.array([value], np.uint64 if k in unsigned else None) for k, value in values.items()})


def _close(parts: Parts, key: Key, group: Group, part_of: int = 0) -> None:
    report(parts, key, group, Event.CLOSED, part_of)
    parts.seen.closed[SHIFT] += 1
    group.id = 0


def tick(parts: Parts) -> Int64:
    """Write updates and close what is over. Returns series whose silence nothing covers any more."""
    quiet_ms = 1000 * parts.plan.settings.incidents.quiet_s
    bare: list[Int64] = [np.zeros(0, np.int64)]
    for key, group in list(parts.shifts.open()):
        if key.is_silence and 2 * len(_covered(parts, key)) >= group.need:
            group.seen_ms = parts.now_ms
        if group.seen_ms + quiet_ms < parts.now_ms:
            _close(parts, key, group)
            bare.append(_uncover(parts, key))
        elif (
            group.devices >= _UPDATE_FACTOR * group.told_devices and group.told_ms + _UPDATE_INTERVAL_MS <= parts.now_ms
        ):
            report(parts, key, group, Event.UPDATED)
    parts.shifts.forget(parts.plan.settings.shifts, parts.now_ms)
    return np.concatenate(bare)


def _covered(parts: Parts, key: Key) -> Int64:
    """Series whose silence this group's incident covers."""
    silent = positions(parts.memory.silent[: parts.table.size] == Silent.COVERED)
    found: Int64 = silent[_holds(parts, key, silent)] if key.is_silence else silent[:0]
    return found


def _uncover(parts: Parts, key: Key) -> Int64:
    found = _covered(parts, key)
    parts.memory.silent[found] = Silent.NO
    return found


def replan(parts: Parts) -> None:
    """Other settings are in force: incidents of groups that are watched no more close."""
    fields = {shift.group for shift in parts.plan.settings.shifts}
    for key, group in list(parts.shifts.open()):
        if key.field not in fields:
            _close(parts, key, group)
            _uncover(parts, key)
    parts.shifts.groups = {key: group for key, group in parts.shifts.groups.items() if key.field in fields}
