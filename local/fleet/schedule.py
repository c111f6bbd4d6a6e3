"""What is sent when: a tick at a time, with exact numbers of every fate. Columns only; payloads.py writes the bytes.

Devices take turns in a fixed shuffled cycle, in which each has as many turns as it is worth, in bursts (a device that
measures ten times a second does not send ten times a second). Of every 1,000 messages so many are malformed, forbidden
or sent a second time: the share of messages so far says how many are due, so the totals are exact for any length.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

TICK_MS: Final = 100
BURST_MS: Final = 1000
"""A device sends about so often at most; what it measures in between goes in one burst."""
MAX_BURST: Final = 20


class Fate(IntEnum):
    """The expected verdict on a message."""

    ACCEPTED = 0
    DENIED = 1
    DEAD_LETTER = 2
    DUPLICATE = 3


class Silence(Protocol):
    """Who has dropped out: faults.Faults."""

    def silent(self, device: Int, time_ms: Int) -> Bool: ...


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of all messages; `reboots` for each message, too. The rest is accepted."""

    denied: float = 0.005
    dead_letters: float = 0.005
    duplicates: float = 0.01
    reboots: float = 0.0005


@dataclass(frozen=True, slots=True)
class Turns:
    """Messages of one tick, in order: index of the device, fate, boot and seq (of a duplicate: those of the device's
    message before), event time in ms. `rebooted`: devices that restarted before this tick's messages."""

    device: Int
    fate: Int
    boot: Int
    seq: Int
    time_ms: Int
    rebooted: Int


class Cycle:
    """Devices in turn. `behind_ms` of a turn: how long before the burst's last measurement this one was taken."""

    def __init__(self, device: Int, weight: Int, rate: float, random: np.random.Generator) -> None:
        per_device = rate / max(1, int(weight.sum()))
        burst = int(np.clip(round(per_device * BURST_MS / 1000), 1, MAX_BURST))
        order = random.permutation(len(device))
        turns = weight[order] * burst
        self._device = np.repeat(device[order], turns)
        first = np.repeat(np.cumsum(turns) - turns, turns)
        place = np.arange(len(first)) - first
        size = np.repeat(turns, turns)
        period_ms = len(first) / rate * 1000
        self._behind_ms = (size - 1 - place) / size * period_ms
        self._next = 0

    def take(self, count: int) -> tuple[Int, Float]:
        """(devices, behind_ms) of the next turns."""
        at = (self._next + np.arange(count)) % len(self._device)
        self._next = (self._next + count) % len(self._device)
        return self._device[at], self._behind_ms[at]


@dataclass(slots=True)
class _Due:
    """How many messages of a fate are due by now: floor(share * messages so far), less what was dealt."""

    share: float
    dealt: int = 0

    def now(self, so_far: int) -> int:
        return int(so_far * self.share + 1e-9) - self.dealt


@dataclass(frozen=True, slots=True)
class Clock:
    """Event time of a moment of the run. `factor` 60: devices' clocks run an hour a minute."""

    start_ms: int
    factor: float = 1.0

    def event_ms(self, run_ms: Float) -> Int:
        found: Int = (self.start_ms + np.floor(run_ms * self.factor)).astype(np.int64)
        return found


class Schedule:
    """All messages of one lane of the fleet (those with MQTT, or those with HTTP): `total` messages at `rate` a second.

    Turns of devices that have dropped out go to others. `boot` is everybody's first.
    """

    def __init__(
        self,
        cycle: Cycle,
        members: int,
        total: int,
        rate: float,
        boot: int,
        mix: Mix,
        silence: Silence,
        clock: Clock,
        random: np.random.Generator,
    ) -> None:
        self._cycle, self._silence, self._clock, self._random = cycle, silence, clock, random
        self._total, self._rate = total, rate
        self._done = self._tick = 0
        self._boot = np.full(members, boot, np.int64)
        self._seq = np.zeros(members, np.int64)
        self._began = np.zeros(members, bool)
        shares = {Fate.DENIED: mix.denied, Fate.DEAD_LETTER: mix.dead_letters, Fate.DUPLICATE: mix.duplicates}
        self._due = {fate: _Due(share) for fate, share in shares.items()}
        self._reboots = _Due(mix.reboots)

    @property
    def finished(self) -> bool:
        return self._done >= self._total

    def next_tick(self) -> Turns:
        """The messages that are due in the next TICK_MS."""
        self._tick += 1
        due = min(self._total, int(self._tick * TICK_MS / 1000 * self._rate + 1e-9)) - self._done
        device, time_ms = self._awake(due)
        self._done += due
        rebooted = self._reboot(device)
        fate = self._fates(device, rebooted)
        boot, seq = self._number(device, fate)
        return Turns(device, fate, boot, seq, time_ms, rebooted)

    def _awake(self, due: int) -> tuple[Int, Int]:
        """The next `due` turns of devices that have not dropped out."""
        devices, times, left = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], due
        while left > 0:
            device, behind_ms = self._cycle.take(left)
            time_ms = self._clock.event_ms(self._tick * TICK_MS - behind_ms)
            awake = ~self._silence.silent(device, time_ms)
            devices.append(device[awake])
            times.append(time_ms[awake])
            left -= int(awake.sum())
        return np.concatenate(devices), np.concatenate(times)

    def _reboot(self, device: Int) -> Int:
        candidates = np.unique(device[self._began[device]])
        count = min(self._reboots.now(self._done), len(candidates))
        chosen = np.sort(self._random.choice(candidates, count, replace=False)) if count else candidates[:0]
        self._reboots.dealt += count
        self._boot[chosen] += 1
        self._seq[chosen] = 0
        return chosen

    def _fates(self, device: Int, rebooted: Int) -> Int:
        fate = np.full(len(device), Fate.ACCEPTED, np.int64)
        order = self._random.permutation(len(device))
        may_repeat = self._began[device] & ~np.isin(device, rebooted)
        for kind, due in self._due.items():
            free = order[fate[order] == Fate.ACCEPTED]
            if kind is Fate.DUPLICATE:
                free = free[may_repeat[free]]
            chosen = free[: max(0, due.now(self._done))]
            fate[chosen] = kind
            due.dealt += len(chosen)
        return fate

    def _number(self, device: Int, fate: Int) -> tuple[Int, Int]:
        """boot and seq of each message. Duplicates take no number of their own."""
        new = (fate != Fate.DUPLICATE).astype(np.int64)
        order = np.argsort(device, kind="stable")
        sorted_device, sorted_new = device[order], new[order]
        counted = np.cumsum(sorted_new)
        starts = np.flatnonzero(np.r_[True, sorted_device[1:] != sorted_device[:-1]][: len(device)])
        before = np.repeat(counted[starts] - sorted_new[starts], np.diff(np.r_[starts, len(device)]))
        seq = np.empty(len(device), np.int64)
        seq[order] = self._seq[sorted_device] + counted - before - 1
        np.add.at(self._seq, device, new)
        self._began[device] = True
        return self._boot[device], seq
