"""What the registry says of devices (role, labels, whether they were removed), from control records in band.

    registry = RegistryColumns(devices)                      # a DeviceTable, shared with what else numbers devices
    if registry.take(key, version, value): ...        # a control record `device/{id}`: something changed
    registry.values("site").take(numbers, mode="clip")  # code of each device's label, NONE where it has none

Devices of one role with the same labels share one entry: there are few of those, and many devices.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import orjson

from runtime.columns.devices import NONE, DeviceTable
from runtime.columns.growing import Growing, Words
from runtime.columns.types import Bool, Int32, Int64
from schemas.control import REMOVED, UNKNOWN, Device, device_of, read_device
from schemas.headers import Version
from schemas.topics import is_device_id

log = logging.getLogger(__name__)
ROLE: Final = "role"
"""The field that is not a label. A label of that name is not seen."""


class RegistryColumns:
    """By device number. `removed`: the registry ended it. `refused` counts broken records: their device has neither
    role nor labels until a good one comes."""

    def __init__(self, devices: DeviceTable) -> None:
        self.devices = devices
        self.refused = 0
        self.changes = 0
        """Raised by each record that changed something."""
        self._kinds = Words()
        """Distinct (role, labels), as JSON."""
        self._kind: Int32 = np.full(1024, NONE, np.int32)
        self._removed: Bool = np.zeros(1024, bool)
        self._epoch: Int64 = np.full(1024, -1, np.int64)
        self._offset: Int64 = np.full(1024, -1, np.int64)
        self._fields: dict[str, tuple[Words, Growing]] = {}

    def take(self, key: str, version: Version, value: bytes) -> int:
        """The number of the device that this control record is about; NONE where it says nothing new or is about
        something else."""
        name = device_of(key)
        if name is None or not is_device_id(name):
            return NONE
        number = self.devices.find_one(name)
        if number != NONE and number < len(self._epoch) and version <= self._version(number):
            return NONE
        found, broken = read_device(key, value)
        if broken is not None:
            self.refused += 1
            log.error("a registry record is ignored, it cannot be decoded: %s", broken)
        kind = NONE if not value or found.state == UNKNOWN else self._kinds.add(_text(found))
        number = self.devices.add(name) if number == NONE else number
        self._grow(number + 1)
        self._epoch[number], self._offset[number] = version.epoch, version.offset
        self._kind[number], self._removed[number] = kind, found.state == REMOVED
        self.changes += 1
        return number

    def _version(self, number: int) -> Version:
        return Version(int(self._epoch[number]), int(self._offset[number]))

    # --- what is known

    def values(self, field: str, numbers: Any = None) -> Int32:
        """Code of `role` or of this label of these devices (None: of all), NONE where there is none; see `word`."""
        self._grow(self.devices.size)
        codes: Int32 = np.append(self._learned(field), np.int32(NONE))  # NONE finds the last
        return codes[self._kind[: self.devices.size] if numbers is None else self._kind[numbers]]

    def kinds(self) -> Int32:
        """int32[devices]: devices of equal kind have the same role and labels; NONE: not registered."""
        self._grow(self.devices.size)
        return self._kind[: self.devices.size]

    def kind(self, number: int) -> dict[str, str]:
        """Role (as ROLE) and labels of a kind; of NONE nothing."""
        if number < 0:
            return {}
        role, labels = orjson.loads(self._kinds.word(number))
        return {**labels, ROLE: role}

    def removed(self) -> Bool:
        """bool[devices]."""
        self._grow(self.devices.size)
        return self._removed[: self.devices.size]

    def word(self, field: str, code: int) -> str:
        """What a code of `values(field)` stands for."""
        self._learned(field)
        return self._fields[field][0].word(code)

    def code(self, field: str, word: str) -> int:
        """The code of a value; NONE where no kind of device has it."""
        self._learned(field)
        return self._fields[field][0].number(word)

    def _learned(self, field: str) -> Int32:
        """Code of the field for each kind. Codes are given in order of the kinds, so a restart gives the same."""
        words, codes = self._fields.setdefault(field, (Words(), Growing(np.int32)))
        for kind in range(len(codes), len(self._kinds)):
            value = self.kind(kind).get(field)
            codes.append([NONE if value is None else words.add(value)])
        found: Int32 = codes.all
        return found

    def _grow(self, size: int) -> None:
        more = 2 * size - len(self._kind)
        if size > len(self._kind):
            self._kind = np.concatenate([self._kind, np.full(more, NONE, np.int32)])
            self._removed = np.concatenate([self._removed, np.zeros(more, bool)])
            self._epoch = np.concatenate([self._epoch, np.full(more, -1, np.int64)])
            self._offset = np.concatenate([self._offset, np.full(more, -1, np.int64)])

    # --- snapshots

    def freeze(self) -> dict[str, Any]:
        """Views, by name: copy before the next record. Devices themselves are stored by who owns their table."""
        size = min(self.devices.size, len(self._kind))
        ends, body = self._kinds.freeze()
        return {
            "registry_kind": self._kind[:size],
            "registry_removed": self._removed[:size],
            "registry_epoch": self._epoch[:size],
            "registry_offset": self._offset[:size],
            "registry_kind_ends": ends,
            "registry_kinds": body,
            "registry_counts": np.array([self.refused, self.changes], np.int64),
        }

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """Take what `freeze` gave for what is there; the devices' table is restored already."""
        size = len(arrays["registry_kind"])
        self._grow(size)
        for name in ("kind", "removed", "epoch", "offset"):
            getattr(self, f"_{name}")[:size] = arrays[f"registry_{name}"]
        self._kinds.restore(arrays["registry_kind_ends"], arrays["registry_kinds"])
        self.refused, self.changes = arrays["registry_counts"].tolist()

    @property
    def nbytes(self) -> int:
        return self._kind.nbytes + self._removed.nbytes + self._epoch.nbytes + self._offset.nbytes


def _text(device: Device) -> str:
    """Role and labels."""
    return orjson.dumps([device.role, device.labels], option=orjson.OPT_SORT_KEYS).decode()
