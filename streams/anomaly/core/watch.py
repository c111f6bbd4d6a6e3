"""What comes of readings, ticks, settings and the registry. The heart of the stage, without its records: `millrace
backtest` runs the same."""

from typing import Any, Final

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.types import Bool, Float64, Int32, Int64
from streams.anomaly.core import fixed, grouping, rows, silence
from streams.anomaly.core.incident_rows import changed, detectors, incident_id
from streams.anomaly.core.incidents import Event, Strange
from streams.anomaly.core.memory import NEVER
from streams.anomaly.core.parts import Parts
from streams.anomaly.core.plan import NO_RULE, RESIDUAL, SILENCE, SLOTS, Plan
from streams.anomaly.core.points import Points, excess_score, points_of, together
from streams.anomaly.core.sequence import Sequence
from streams.anomaly.core.silence import Silent

REPORTED_POINTS: Final = 20
"""So many strange readings of an incident are written as rows of their own; those that follow are only counted."""
_GREATEST: Final = 1e30
"""Values are judged as if they were no greater, so that differences stay finite."""
_USUAL_GAPS: Final = 3.0
"""An incident does not close before the series could have spoken so many times."""
REFUSED_INCIDENTS: Final = "open_incidents"
"""Reason: one record would have opened too many incidents."""


# --- readings


def readings(parts: Parts, batch: Any) -> None:
    """Judge a batch of telemetry.readings and learn from it."""
    found, refused = rows.read(batch, parts.table)
    parts.seen.refused.update(refused)
    parts.seen.readings += len(found)
    if not len(found):
        return
    parts.seen.received_ms = int(found.received_ms[-1])
    publisher = rows.publishers(batch, found, parts.table)
    parts.grow()
    device = parts.table.device_of(found.series)
    parts.owners.publisher[device] = device if publisher is None else publisher
    parts.owners.heard_ms[device] = found.received_ms
    points = _judge(parts, found)
    if points is not None:
        _strange(parts, found, points)


def _judge(parts: Parts, found: rows.Rows) -> Points | None:
    """The points of a batch, if there are any; all memories have taken it in then."""
    plan, memory = parts.plan, parts.memory
    value = np.minimum(np.maximum(found.value, -_GREATEST), _GREATEST)
    sequence = Sequence(memory, found.series, found.time_ms, value)
    by_series = parts.rules[sequence.series]
    by_row = sequence.spread(by_series)
    received = found.received_ms[sequence.order]
    arrivals = silence.arrivals_of(memory, sequence.series, sequence.firsts(received), sequence.lasts(received))
    harder = parts.harder.of(sequence.series)
    rows_harder = None if harder is None else sequence.spread(harder)
    points = fixed.rate(plan, by_row, sequence, rows_harder)
    points += fixed.limits(plan, by_row, sequence, memory, rows_harder)
    points += fixed.stuck(plan, by_row, sequence, memory, arrivals.fading, rows_harder)
    points += _residual(parts, found, value, sequence)
    _wake(parts, sequence.series)
    silence.observe(plan, by_series, memory, arrivals, harder)
    sequence.remember(memory)
    return together(points) if points else None


def _residual(parts: Parts, found: rows.Rows, value: Float64, sequence: Sequence) -> list[Points]:
    if not parts.plan.has(RESIDUAL):
        return []
    threshold = parts.plan.threshold[parts.rules[found.series]]
    harder = parts.harder.of(found.series)
    if harder is not None:
        threshold = threshold * harder[:, RESIDUAL]
    asked = ~np.isnan(threshold)
    if asked.all():
        judged = parts.residual.step(found.series, found.time_ms, value, threshold, sequence.groups)
        return points_of(judged.alert, None, RESIDUAL, judged.score, judged.low, judged.high, judged.signal)
    order = positions(asked)
    judged = parts.residual.step(found.series[order], found.time_ms[order], value[order], threshold[order])
    return points_of(judged.alert, order, RESIDUAL, judged.score, judged.low, judged.high, judged.signal)


def _strange(parts: Parts, found: rows.Rows, points: Points) -> None:
    at = points.row
    series = found.series[at].astype(np.int64)
    severity = parts.plan.severity[parts.rules[series], points.slot]
    columns = (found.time_ms[at], found.value[at], points.score, points.low, points.high, points.facts, severity)
    strange = Strange(series * SLOTS + points.slot, *columns)
    _to_incidents(parts, strange, found.received_ms[at], found.raw_row[at], found.reading_index[at])


def _to_incidents(parts: Parts, strange: Strange, received_ms: Int64, raw_row: Any, reading_index: Any) -> None:
    """Points become parts of incidents, of groups or of single series, and are written."""
    incident, written = grouping.cover(parts, strange)
    single = positions(incident == 0)
    if len(single):
        rest = strange.where(single)
        written[single] = parts.incidents.points_of(rest.key) < REPORTED_POINTS
        incident[single], news = parts.incidents.take(rest, parts.now_ms, lambda *of: incident_id(parts, *of))
        changed(parts, news)
    refused = int(np.count_nonzero(incident == 0))
    if refused:
        parts.seen.refused[REFUSED_INCIDENTS] += refused
    names = detectors(parts, strange.key)
    parts.seen.points.update(parts.pending.words.word(name) for name in names.tolist())
    columns = {
        "incident": incident,
        "detector": names,
        "slot": strange.key % SLOTS,
        "series": strange.key // SLOTS,
        "received_ms": received_ms,
        "raw_row": raw_row,
        "reading_index": reading_index,
        **{name: getattr(strange, name) for name in Strange.__dataclass_fields__ if name != "key"},
    }
    rows = positions(written & (incident != 0))
    parts.pending.strange({name: column[rows] for name, column in columns.items()})


# --- silence


def _wake(parts: Parts, series: Any) -> None:
    """Readings of these series arrived: their silences end."""
    memory = parts.memory
    flags = memory.silent[series]
    if not flags.any():
        return
    back = series[flags > 0].astype(np.int64)
    places = parts.incidents.find(back[memory.silent[back] == Silent.OWN] * SLOTS + SILENCE)
    changed(parts, [(Event.CLOSED, parts.incidents.close(places[places >= 0], parts.now_ms))])
    memory.silent[back] = Silent.NO
    size, devices = parts.table.size, np.unique(parts.table.device_of(back))
    _reset_deadlines(parts, silence.woken(memory, parts.owners, size, parts.table.device_of(slice(0, size)), devices))


def _reset_deadlines(parts: Parts, series: Int64) -> None:
    """Silence of these series counts from now on."""
    parts.memory.heard_ms[series] = parts.now_ms
    _await(parts, series)


def _await(parts: Parts, series: Int64) -> None:
    silence.await_again(parts.plan, parts.rules[series], parts.memory, series, parts.harder.of(series))


def _silences(parts: Parts) -> None:
    memory = parts.memory
    series = silence.overdue(memory, parts.table.size, parts.now_ms)
    if not len(series):
        return
    device = parts.table.device_of(series)
    wait = silence.wait_ms(parts.plan, parts.rules[series], memory, series, parts.harder.of(series))
    wait = np.where(np.isfinite(wait), wait, silence.LEAST_WAIT_MS)
    opens = silence.fallen(memory, parts.owners, series, device, wait, parts.now_ms)
    if opens.any():
        _silent(parts, series[opens], wait[opens])


def _silent(parts: Parts, series: Int64, wait_ms: Float64) -> None:
    now, no_row = np.full(len(series), parts.now_ms), np.full(len(series), -1)
    gap_ms = (now - parts.memory.heard_ms[series]).astype(np.float64)
    usual_ms, none = parts.memory.gap_ms[series], np.full(len(series), np.nan)
    facts = np.stack([gap_ms, np.where(usual_ms > 0, usual_ms, wait_ms), none], 1)
    severity = parts.plan.severity[parts.rules[series], SILENCE]
    score = excess_score(gap_ms / wait_ms - 1.0)
    strange = Strange(series * SLOTS + SILENCE, now, none, score, none, none, facts, severity)
    _to_incidents(parts, strange, now, no_row, no_row)


# --- ticks


def tick(parts: Parts, now_ms: int) -> None:
    """Stream time moves, forward only: incidents close, silences are found."""
    parts.now_ms = max(parts.now_ms, now_ms)
    settings = parts.plan.settings.incidents
    news = parts.incidents.tick(parts.now_ms, lambda keys: _quiet_ms(parts, keys), 1000 * settings.cool_down_s)
    changed(parts, news)
    _reset_deadlines(parts, grouping.tick(parts))
    _silences(parts)


def _quiet_ms(parts: Parts, keys: Int64) -> Int64:
    least = 1000.0 * parts.plan.settings.incidents.quiet_s
    found: Int64 = np.maximum(least, _USUAL_GAPS * parts.memory.gap_ms[keys // SLOTS]).astype(np.int64)
    return found


# --- settings and registry


def replan(parts: Parts, plan: Plan) -> None:
    """Other settings are in force: incidents of detectors that are no more close, sides of limits are forgotten."""
    _carry_over(parts, plan, parts.rules_of(plan, np.arange(parts.table.size)))
    parts.memory.widen(plan.width)
    _await_ruled(parts, np.arange(parts.table.size))
    grouping.replan(parts)
    parts.harden()


def reclassify(parts: Parts, devices: list[int]) -> None:
    """The registry says something else of these devices: other rules may count, and other groups hold them."""
    parts.grow()
    of_series = parts.table.device_of(slice(0, parts.table.size))
    listed = np.zeros(parts.table.devices.size, bool)
    listed[devices] = True
    series = positions(listed[of_series])
    rules = parts.rules.copy()
    rules[series] = parts.rules_of(parts.plan, series)
    other = series[rules[series] != parts.rules[series]]
    _carry_over(parts, parts.plan, rules)
    parts.memory.limits[other] = 0
    parts.memory.strange_ms[series] = -1
    _await_ruled(parts, other)
    gone = series[parts.registry.removed()[of_series[series]]]
    _close(parts, np.isin(parts.incidents.rows["key"] // SLOTS, gone))
    parts.memory.due_ms[gone], parts.memory.silent[gone] = NEVER, Silent.NO
    parts.harden()


def _carry_over(parts: Parts, plan: Plan, rules: Int32) -> None:
    """Put `plan` and `rules` in force; incidents stay with the detector of their name and kind, or close."""
    keys = [_key_then(parts, plan, rules, key) for key in parts.incidents.rows["key"].tolist()]
    kept = np.array(keys, np.int64) >= 0
    _close(parts, ~kept)
    left = parts.incidents.rows
    left["key"] = np.array(keys, np.int64)[kept]
    parts.incidents.rows = left[np.argsort(left["key"])]
    parts.plan, parts.rules = plan, rules


def _key_then(parts: Parts, plan: Plan, rules: Int32, key: int) -> int:
    series, slot = divmod(key, SLOTS)
    one = parts.plan.slots[int(parts.rules[series])].get(slot)
    rule = int(rules[series])
    then = None if one is None or rule == NO_RULE else plan.slot(rule, one.name)
    return -1 if then is None or one is None or plan.slots[rule][then].kind is not one.kind else series * SLOTS + then


def _close(parts: Parts, which: Bool) -> None:
    changed(parts, [(Event.CLOSED, parts.incidents.drop(positions(which), parts.now_ms))])


def _await_ruled(parts: Parts, series: Int64) -> None:
    """Other rules count for these series: recalculate how long they may be silent."""
    watched = np.array([SILENCE in slots for slots in parts.plan.slots])[parts.rules[series]]
    memory = parts.memory
    memory.due_ms[series[~watched]], memory.silent[series[~watched]] = NEVER, Silent.NO
    _await(parts, series[watched & (memory.arrivals[series] > 0) & (memory.silent[series] == Silent.NO)])
