"""What is known of each device, in arrays by its number."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
import pyarrow as pa

from runtime.columns.arrays import positions
from runtime.columns.devices import NONE, DeviceTable
from runtime.columns.types import Bool, Int32, Int64
from schemas.topics import is_device_id
from streams.presence.core.deadlines import NEVER, Deadlines

MAX_DEVICES: Final = 1_000_000
"""Per partition. Further devices are only counted; access remembers fewer unregistered devices than that."""
BEFORE: Final = -(1 << 62)
"""A time before all times: it never was."""
_COMPACT_FROM: Final = 1_024


class Is(IntEnum):
    """State of a device. NEW: nothing is known of it yet."""

    NEW = 0
    OFFLINE = 1
    ONLINE = 2


class Why(IntEnum):
    """Reasons of schemas/presence.py, in the order in which rows number them."""

    TELEMETRY = 0
    CONNECTED = 1
    DISCONNECTED = 2
    WILL = 3
    SILENCE = 4
    REMOVED = 5


@dataclass(slots=True)
class Columns:
    """`heard`, `first`: stream time without standstills (watch.py) at which the device last and first gave a sign of
    life, -1 before. `longest`, `before`: longest gap of this period, which began at `period`, and of the one before,
    see learning.py. `seen_ms`: receipt of its last message.

    `now`: its state, with `why` and `since_ms`; `told`: the state last written to
    telemetry.presence, which differs while damping suppresses changes, `kept` so many. `heat_ms`: stream time until
    which it counts as restless (damping.py); `held`: it is judged by silence alone. `publisher`: number of its
    gateway, NONE for all others. `gone`: removed, its number is free.
    """

    heard: Int64
    longest: Int64
    before: Int64
    period: Int64
    first: Int64
    seen_ms: Int64
    since_ms: Int64
    heat_ms: Int64
    kept: Int32
    publisher: Int32
    now: Any
    told: Any
    why: Any
    held: Bool
    gone: Bool

    @classmethod
    def made(cls, size: int) -> "Columns":
        return cls(**{name: np.full(size, empty, kind) for name, (kind, empty) in _FORM.items()})

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in _FORM)


_FORM: Final[dict[str, tuple[Any, Any]]] = {
    "heard": (np.int64, -1),
    "longest": (np.int64, 0),
    "before": (np.int64, 0),
    "period": (np.int64, -1),
    "first": (np.int64, -1),
    "seen_ms": (np.int64, BEFORE),
    "since_ms": (np.int64, BEFORE),
    "heat_ms": (np.int64, BEFORE),
    "kept": (np.int32, 0),
    "publisher": (np.int32, NONE),
    "now": (np.uint8, Is.NEW),
    "told": (np.uint8, Is.NEW),
    "why": (np.uint8, Why.TELEMETRY),
    "held": (np.bool_, False),
    "gone": (np.bool_, False),
}


class Devices:
    """The devices of a partition: their numbers, columns and deadlines grow together."""

    def __init__(self, capacity: int = 1024) -> None:
        self.table = DeviceTable(capacity)
        self.columns = Columns.made(capacity)
        self.deadlines = Deadlines(capacity)
        self.held: Int32 = np.zeros(0, np.int32)
        """Numbers of those that are held, ascending: `columns.held`, quicker to walk."""
        self.untracked = 0
        """Signs of life of devices beyond MAX_DEVICES."""
        self._gone = 0
        self._children = False
        """Whether there may be any; a state without looks at no column for it."""

    @property
    def size(self) -> int:
        """Of the table; numbers of removed devices count until they are taken out."""
        return self.table.size

    @property
    def watched(self) -> int:
        return self.table.size - self._gone

    def numbers(self, ids: Any, last: Int64) -> Int32:
        """The number of each id, new ones added where `last` >= 0; NONE where it is none, is new or removed and not to
        be added, or there is no room."""
        found = self.table.find(ids)
        if self._gone:
            self._mind_the_gone(found, last >= 0)
        if found.min(initial=0) < 0:
            new = (found == NONE) & (last >= 0)
            if new.any():
                self._add(found, positions(new), ids)
        return found

    def own(self, numbers: Int32, publishers: Int32 | None = None) -> None:
        """These spoke by these publishers; None: for themselves."""
        if publishers is not None:
            children = publishers != numbers
            self._children |= bool(children.any())
            self.columns.publisher[numbers] = np.where(children, publishers, NONE)
        elif self._children:
            self.columns.publisher[numbers] = NONE

    def owner(self, numbers: Int32) -> Int32:
        """In whose partition each lives: its gateway's, or its own."""
        publisher = self.columns.publisher[numbers]
        return np.where(publisher == NONE, numbers, publisher)

    def known(self, device: str) -> int:
        """The number of a device that is watched, NONE for any other."""
        found = self.table.find_one(device)
        return NONE if found == NONE or self.columns.gone[found] else found

    def forget(self, numbers: Int32) -> None:
        """These were removed: nothing is known of them any more."""
        self.let_go(numbers)
        self.deadlines.put(numbers, np.full(len(numbers), NEVER))
        for name, (_, empty) in _FORM.items():
            getattr(self.columns, name)[numbers] = empty
        self.columns.gone[numbers] = True
        self._gone += len(numbers)

    def tidy(self) -> None:
        """Take removed devices out when they are many. Numbers change by that: those from before mean nothing."""
        if self._gone > max(_COMPACT_FROM, self.table.size // 2):
            self._compact()

    def hold(self, numbers: Int32) -> None:
        """These are judged by silence alone from now on."""
        self.columns.held[numbers] = True
        self.held = np.union1d(self.held, numbers).astype(np.int32)

    def let_go(self, numbers: Int32) -> None:
        self.columns.held[numbers] = False
        self.held = np.setdiff1d(self.held, numbers).astype(np.int32)

    def _mind_the_gone(self, found: Int32, wanted: Bool) -> None:
        """Removed devices that are wanted again come back, the others are not there."""
        gone = self.columns.gone[found] & (found != NONE)
        if not gone.any():
            return
        back = np.unique(found[gone & wanted])
        self.columns.gone[back] = False
        self._gone -= len(back)
        found[self.columns.gone[found] & (found != NONE)] = NONE

    def _add(self, found: Int32, places: Any, ids: Any) -> None:
        for place, device in zip(places.tolist(), ids.take(pa.array(places)).to_pylist(), strict=True):
            if not is_device_id(device):
                continue
            if self.table.size >= MAX_DEVICES:
                self.untracked += 1
            else:
                found[place] = self.table.add(device)
        self._grow()

    def _grow(self) -> None:
        capacity, old = len(self.table.words), self.columns
        if capacity > len(old.heard):
            self.columns = Columns.made(capacity)
            for name in _FORM:
                getattr(self.columns, name)[: len(old.heard)] = getattr(old, name)
        self.deadlines.grow(capacity)

    def _compact(self) -> None:
        """Take the removed ones out; the others get new numbers, in the same order."""
        size, columns = self.table.size, self.columns
        stays = ~columns.gone[:size]
        owners = columns.publisher[:size][stays]
        stays[owners[owners >= 0]] = True  # a removed gateway may still be named by its children
        new = np.append(np.cumsum(stays, dtype=np.int32) - 1, np.int32(NONE))
        chosen = positions(stays)
        arrays = {name: array[:size][chosen] for name, array in self.arrays().items() if name != "words"}
        arrays["publisher"] = new[arrays["publisher"]]
        self.restore(arrays | {"words": self.table.words[chosen]})

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + self.columns.nbytes + self.deadlines.due.nbytes

    # --- snapshots

    def arrays(self) -> dict[str, Any]:
        """All that is known, most of it as views."""
        size = self.table.size
        found = {name: getattr(self.columns, name)[:size] for name in _FORM}
        return found | {"words": self.table.stored(), "due": self.deadlines.due[:size]}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Take these for what is there. `untracked` stays."""
        size = len(arrays["words"])
        self.table.restore(arrays["words"])
        self.columns = Columns.made(len(self.table.words))
        for name in _FORM:
            getattr(self.columns, name)[:size] = arrays[name]
        self.deadlines.restore(arrays["due"], len(self.table.words))
        self.held = positions(self.columns.held[:size]).astype(np.int32)
        self._gone = int(np.count_nonzero(self.columns.gone[:size]))
        self._children = bool((self.columns.publisher[:size] != NONE).any())
