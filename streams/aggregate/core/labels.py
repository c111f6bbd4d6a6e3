"""Labels of devices, as the registry told them in band."""

from typing import Any, Final

import numpy as np
import orjson

from runtime.columns.devices import DeviceTable
from runtime.columns.growing import Words
from runtime.columns.keys import NONE
from runtime.columns.types import Int32, Int64
from schemas.control import Device
from schemas.headers import Version

ROLE: Final = "role"
"""The registry's field of that name counts as a label."""
_LEAST_SETS: Final = 1 << 10
"""Sets of labels that are not worth looking whether a device still has them."""


class Labels:
    """Devices share few sets of labels: `sets` holds each once, as JSON. By device number: `set_of`, place of its set
    there or NONE, and `epoch`, `offset`, the version of what is known."""

    def __init__(self, devices: DeviceTable) -> None:
        self.devices = devices
        self.sets = Words()
        self._read: dict[str, _Label] = {}
        self._columns(0)

    def _columns(self, size: int) -> None:
        self.set_of: Int32 = np.full(size, NONE, np.int32)
        self.epoch: Int64 = np.full(size, NONE)
        self.offset: Int64 = np.full(size, NONE)

    def put(self, device: str, version: Version, found: Device | None) -> None:
        """Take over what a control record says, unless something newer is known; None: the registry forgot it."""
        number = self.devices.find_one(device)
        number = self.devices.add(device) if number == NONE else number
        self._grow()
        if version <= Version(int(self.epoch[number]), int(self.offset[number])):
            return
        self.epoch[number], self.offset[number] = version.epoch, version.offset
        self.set_of[number] = NONE if found is None else self.sets.add(_text(found))
        if len(self.sets) > max(_LEAST_SETS, 2 * self.devices.size):
            self._forget_unused()

    def values(self, label: str, devices: Int64) -> tuple[Int32, list[str]]:
        """(place of each device's value of a label in the list, NONE where it has none; the list)."""
        self._grow()
        read = self._read.setdefault(label, _Label(label))
        read.learn(self.sets)
        return read.places.take(self.set_of.take(devices) + 1), read.values

    def _grow(self) -> None:
        """Columns for all devices, wherever they were numbered."""
        before, size = len(self.set_of), self.devices.size
        if size > before:
            old = self.set_of, self.epoch, self.offset
            self._columns(max(size, 2 * before))
            self.set_of[:before], self.epoch[:before], self.offset[:before] = old

    def _forget_unused(self) -> None:
        """Firmware moves on: sets that no device has any more go."""
        there = np.unique(self.set_of)
        there = there[there >= 0]
        kept, self.sets, self._read = [self.sets.word(number) for number in there.tolist()], Words(), {}
        new = np.full(int(there.max(initial=0)) + 2, NONE, np.int32)
        new[there + 1] = [self.sets.add(word) for word in kept]
        self.set_of = new[self.set_of + 1]

    # --- snapshots

    def freeze(self) -> dict[str, Any]:
        self._grow()
        size = self.devices.size
        ends, sets = self.sets.freeze()
        columns = {name: getattr(self, name)[:size].copy() for name in ("set_of", "epoch", "offset")}
        return {f"label_{name}": array for name, array in (columns | {"set_ends": ends, "sets": sets}).items()}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Take what `freeze` gave for what is there. The devices are those that were frozen with it."""
        self.sets.restore(arrays["label_set_ends"], arrays["label_sets"])
        self._read = {}
        self.set_of, self.epoch, self.offset = (arrays[f"label_{name}"] for name in ("set_of", "epoch", "offset"))

    @property
    def nbytes(self) -> int:
        return int(self.set_of.nbytes + self.epoch.nbytes + self.offset.nbytes)


class _Label:
    """One label in all sets. `places`: of set s at s + 1, so that those without a set (NONE) have none."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: list[str] = []
        self._place: dict[str, int] = {}
        self._list = [NONE]
        self.places: Int32 = np.array([NONE], np.int32)

    def learn(self, sets: Words) -> None:
        """Read sets that came since."""
        if len(self._list) > len(sets):
            return
        for number in range(len(self._list) - 1, len(sets)):
            value = orjson.loads(sets.word(number)).get(self.name)
            if value is not None and value not in self._place:
                self._place[value] = len(self.values)
                self.values.append(value)
            self._list.append(NONE if value is None else self._place[value])
        self.places = np.array(self._list, np.int32)


def _text(device: Device) -> str:
    return orjson.dumps({**device.labels, ROLE: device.role}, option=orjson.OPT_SORT_KEYS).decode()
