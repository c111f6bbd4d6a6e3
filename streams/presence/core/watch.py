"""Which devices are online, in one partition: changes by messages, reports of connections, removals and time.

Time is stream time, which only ticks move; the time of a message is stream time at its record, whatever clocks say.
Where two ticks lie further apart than `standstill`, the platform was down and could receive no message: that time
is left out (`clock` counts without it), so that an outage of Kafka is no silence of devices.

A record changes a device at most once: what comes and goes within it is counted, and only the final state is written.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from runtime.columns.arrays import positions
from runtime.columns.devices import NONE
from runtime.columns.grouped import Grouped
from runtime.columns.types import Bytes, Int32, Int64
from streams.presence.core import damping, learning
from streams.presence.core.deadlines import NEVER
from streams.presence.core.devices import Devices, Is, Why
from streams.presence.core.rows import MOST_ROWS, Changes, both
from streams.presence.core.signals import Coded, Signals
from streams.presence.rules import Rules

MOST_LOOKS: Final = 100_000
"""Devices of which a tick asks whether they are silent; the rest waits for the next."""


@dataclass(slots=True)
class _Moves:
    """Devices, each once, that changed in a record: how often, what they are now, why and since when; `row`: the row
    that reported it."""

    device: Int32
    changes: Int32
    state: Bytes
    why: Bytes
    since_ms: Int64
    row: Int64

    def __add__(self, other: "_Moves") -> "_Moves":
        return _Moves(*(np.concatenate([getattr(one, name) for one in (self, other)]) for name in self.__slots__))


class Watch:
    """`time_ms` is stream time, `clock` stream time without standstills, from 0."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.devices = Devices()
        self.time_ms = self.clock = 0

    # --- messages and reports of connections

    def take(self, found: Signals, received_ms: Int64) -> Changes | None:
        """What a record changes. `received_ms`: receipt of each of its rows."""
        reported = self._reported(found)
        spoke, row = self._spoke(found)
        self.devices.columns.seen_ms[spoke] = received_ms[row]
        if len(reported):
            self._observe(np.union1d(spoke, reported[(reported != NONE) & (found.state == Is.ONLINE)]))
            # for devices whose connects were reported, only these count
            others = ~np.isin(spoke, reported)
            moves = self._back(spoke[others], row[others], received_ms) + self._moved(found, reported, received_ms)
        else:
            self._observe(spoke)
            if (self.devices.columns.now[spoke] == Is.ONLINE).all():
                return None
            moves = self._back(spoke, row, received_ms)
        return self._change(moves) if len(moves.device) else None

    def _spoke(self, found: Signals) -> tuple[Int32, Int64]:
        """(devices that gave a sign of life by a message, each once; the last row of each)."""
        last = found.device.last(found.spoke)
        numbers = self.devices.numbers(found.device.words, last)
        if last.min() < 0 or numbers.min() < 0:
            there = (last >= 0) & (numbers != NONE)
            numbers, last = numbers[there], last[there]
        if found.publisher is None and not len(found.refused):
            self.devices.own(numbers)
            return numbers, last
        return self._with_publishers(found, found.publisher or found.device, numbers, last)

    def _with_publishers(self, found: Signals, publisher: Coded, numbers: Int32, last: Int64) -> tuple[Int32, Int64]:
        """Their publishers gave one by that, too, and those whose messages were refused."""
        spoken = publisher.last(found.spoke)
        publishers = self.devices.numbers(publisher.words, spoken)
        self.devices.own(numbers, publishers[publisher.codes[last]])
        spoken = np.maximum(spoken, publisher.last(found.refused))
        there = (publishers != NONE) & (spoken >= 0)
        return _last_of_each(np.append(numbers, publishers[there]), np.append(last, spoken[there]))

    def _reported(self, found: Signals) -> Int32:
        """The device of each row that reports a connect or disconnect, NONE where it is not watched."""
        if not len(found.reported):
            return np.zeros(0, np.int32)
        numbers = self.devices.numbers(found.device.words, found.device.last(found.reported))
        return numbers[found.device.codes[found.reported]]

    def _observe(self, devices: Int32) -> None:
        """These gave a sign of life."""
        columns = self.devices.columns
        gap = self.clock - columns.heard[devices]
        longer = positions(gap > columns.longest[devices])
        if len(longer):
            self._learn(devices[longer], gap[longer])
        columns.heard[devices] = self.clock

    def _learn(self, devices: Int32, gap: Int64) -> None:
        """These were never silent for so long in their period, or are new."""
        columns = self.devices.columns
        new = columns.heard[devices] < 0
        if new.any():
            fresh = devices[new]
            columns.first[fresh] = columns.period[fresh] = self.clock
            devices, gap = devices[~new], gap[~new]
        usual, watched = self._learned(devices)
        columns.longest[devices] = learning.cut(gap, usual, watched, self.rules)

    def _learned(self, devices: Int32) -> tuple[Int64, Int64]:
        """(longest usual gap, how long they were watched), as learning.py wants them."""
        columns = self.devices.columns
        usual = np.maximum(columns.longest[devices], columns.before[devices])
        return usual, columns.heard[devices] - columns.first[devices]

    def _wait(self, devices: Int32) -> None:
        """Look at these again when they may be silent."""
        columns = self.devices.columns
        usual, _ = self._learned(devices)
        due = learning.look_again(columns.heard[devices], columns.first[devices], usual, self.clock, self.rules)
        self.devices.deadlines.put(devices, due)

    def _back(self, spoke: Int32, row: Int64, received_ms: Int64) -> _Moves:
        """Devices that were not online and have sent a message."""
        columns = self.devices.columns
        away = positions(columns.now[spoke] != Is.ONLINE)
        devices, row = spoke[away], row[away]
        left = (columns.why[devices] == Why.DISCONNECTED) | (columns.why[devices] == Why.WILL)
        early = left & (np.abs(self.time_ms - columns.since_ms[devices]) <= self.rules.settle_ms)
        devices, row = devices[~early], row[~early]
        size = len(devices)
        state, why = np.full(size, Is.ONLINE, np.uint8), np.full(size, Why.TELEMETRY, np.uint8)
        return _Moves(devices, np.ones(size, np.int32), state, why, received_ms[row], row)

    def _moved(self, found: Signals, reported: Int32, received_ms: Int64) -> _Moves:
        """Devices reported to connect or disconnect, as often as that changed their state."""
        known = positions(reported != NONE)
        groups = Grouped(reported[known])
        order = known[groups.order]
        after = found.state[order]
        before = np.empty_like(after)
        before[1:] = after[:-1]
        before[groups.starts] = self.devices.columns.now[groups.device]
        sums = np.append(0, np.cumsum(after != before))
        changes = sums[groups.starts + groups.sizes] - sums[groups.starts]
        changed = positions(after != before)
        moved = changes > 0
        at = order[changed[sums[(groups.starts + groups.sizes)[moved]] - 1]]
        row = found.reported[at]
        device, count = groups.device[moved], changes[moved].astype(np.int32)
        return _Moves(device, count, found.state[at], found.why[at], received_ms[row], row)

    # --- changes

    def _change(self, moves: _Moves) -> Changes | None:
        """Apply changes, and emit those that damping does not suppress, in order of their rows."""
        columns, rules, devices = self.devices.columns, self.rules, moves.device
        columns.now[devices], columns.why[devices] = moves.state, moves.why
        columns.since_ms[devices] = moves.since_ms
        columns.heat_ms[devices] = heat = damping.heated(columns.heat_ms[devices], self.time_ms, moves.changes, rules)
        restless = damping.is_restless(heat, self.time_ms, rules)
        if restless.any():
            self.devices.hold(devices[restless])
        # a device that is held and was reported online stays so until it is silent or calm
        was = columns.told[devices]
        emits = (moves.state != was) & ~(columns.held[devices] & (was == Is.ONLINE))
        columns.kept[devices] += moves.changes - emits
        chosen = positions(emits)
        return self._emit(devices[chosen[np.argsort(moves.row[chosen], kind="stable")]])

    def _emit(self, devices: Int32) -> Changes | None:
        """The rows with the present state of these devices."""
        if not len(devices):
            return None
        columns = self.devices.columns
        usual, watched = self._learned(devices)
        expected = learning.allowed(usual, watched, self.rules).astype(np.float64)
        expected[~learning.is_known(usual, watched, self.rules)] = np.nan
        changes = Changes(
            devices,
            self.devices.owner(devices),
            columns.now[devices],
            columns.why[devices],
            columns.since_ms[devices],
            columns.seen_ms[devices],
            expected,
            columns.kept[devices],
        )
        columns.kept[devices] = 0
        columns.told[devices] = changes.state
        there = changes.state == Is.ONLINE
        self._wait(devices[there])
        self.devices.deadlines.put(devices[~there], np.full(len(devices) - np.count_nonzero(there), NEVER))
        return changes

    # --- time

    def tick(self, time_ms: int) -> Changes | None:
        """What the passing of time changes; a time that is not later than the last changes nothing."""
        if time_ms <= self.time_ms:
            return None
        self.clock += min(time_ms - self.time_ms, self.rules.standstill_ms)
        self.time_ms = time_ms
        self.devices.tidy()
        due = self.devices.deadlines.passed(self.clock, MOST_LOOKS)
        silent = self._look(due) if len(due) else None
        return both(silent, self._calm() if len(self.devices.held) else None)

    def _look(self, devices: Int32) -> Changes | None:
        """Which of these, whose time is over as far as was known, are silent? The others are looked at again."""
        columns = self.devices.columns
        usual, watched = self._learned(devices)
        over = learning.is_over(self.clock - columns.period[devices], usual, self.rules)
        if over.any():
            ended = devices[over]
            columns.before[ended], columns.longest[ended], columns.period[ended] = columns.longest[ended], 0, self.clock
        silent = learning.is_silent(columns.heard[devices], usual, watched, self.clock, self.rules)
        self._wait(devices[~silent])
        return self._silent(devices[silent][: MOST_ROWS // 2])

    def _silent(self, devices: Int32) -> Changes | None:
        """These sent nothing for longer than they may be silent."""
        columns = self.devices.columns
        there = devices[columns.now[devices] == Is.ONLINE]
        self._release(devices)
        once = np.ones(len(there), np.int32)
        columns.heat_ms[there] = damping.heated(columns.heat_ms[there], self.time_ms, once, self.rules)
        columns.since_ms[devices] = np.maximum(columns.seen_ms[devices], columns.since_ms[devices])
        return self._ends(devices, Why.SILENCE)

    def _calm(self) -> Changes | None:
        """Those that have calmed down are held no longer; what damping suppressed of them is emitted now."""
        columns, held = self.devices.columns, self.devices.held
        calm = held[damping.is_calm(columns.heat_ms[held], self.time_ms, self.rules)][: MOST_ROWS // 2]
        if not len(calm):
            return None
        self.devices.let_go(calm)
        return self._emit(self._release(calm))

    def _release(self, devices: Int32) -> Int32:
        """Of these, those whose last change was suppressed; it is about to be emitted."""
        columns = self.devices.columns
        found: Int32 = devices[columns.now[devices] != columns.told[devices]]
        columns.kept[found] -= 1
        return found

    def _ends(self, devices: Int32, why: Why) -> Changes | None:
        self.devices.columns.now[devices], self.devices.columns.why[devices] = Is.OFFLINE, why
        return self._emit(devices)

    # --- what operators decide

    def set_rules(self, rules: Rules) -> None:
        """Apply these from now on, also to deadlines that are set already."""
        self.rules = rules
        due = self.devices.deadlines.due[: self.devices.size]
        self._wait(positions(due != NEVER).astype(np.int32))

    def remove(self, device: str, owner: str | None) -> Changes | None:
        """A device that the registry ended (`owner` None), or gave to this owner, is not watched here any more; one
        that `owner` owned before stays."""
        at, columns = self.devices.known(device), self.devices.columns
        one = np.array([at], np.int32)
        if at == NONE or (
            owner is not None and self.devices.table.name(int(self.devices.owner(one)[0])) in (owner, device)
        ):
            return None
        changes = None
        if columns.told[at] == Is.ONLINE:
            columns.since_ms[at] = self.time_ms
            changes = self._ends(one, Why.REMOVED)
        self.devices.forget(one)
        return changes


def _last_of_each(numbers: Int32, rows: Int64) -> tuple[Int32, Int64]:
    """Each number once, with its last row."""
    order = np.lexsort((rows, numbers))
    numbers, rows = numbers[order], rows[order]
    last = np.append(numbers[1:] != numbers[:-1], True)[: len(numbers)]
    return numbers[last], rows[last]
