"""What the registry says of devices, as control records told it, by device number."""

from typing import Final

import numpy as np

from runtime.columns.types import Int32, Int64
from schemas.control import Device
from schemas.headers import Version
from streams.access.core.rules import NO_ROLE, Rules

UNREGISTERED: Final = -1
REMOVED: Final = -2
NO_PARENT: Final = -1


class Registry:
    """`role`: int32[devices], a place in `words`, or UNREGISTERED or REMOVED; `parent`: device number or NO_PARENT;
    `epoch`, `offset`: version of what is known, -1 when nothing is."""

    def __init__(self, capacity: int) -> None:
        self.words: list[str] = []
        self.role: Int32 = np.full(capacity, UNREGISTERED, np.int32)
        self.parent: Int32 = np.full(capacity, NO_PARENT, np.int32)
        self.epoch: Int64 = np.full(capacity, -1, np.int64)
        self.offset: Int64 = np.full(capacity, -1, np.int64)

    def grow(self, capacity: int) -> None:
        more = capacity - len(self.role)
        self.role = np.concatenate([self.role, np.full(more, UNREGISTERED, np.int32)])
        self.parent = np.concatenate([self.parent, np.full(more, NO_PARENT, np.int32)])
        self.epoch = np.concatenate([self.epoch, np.full(more, -1, np.int64)])
        self.offset = np.concatenate([self.offset, np.full(more, -1, np.int64)])

    def is_news(self, number: int, version: Version) -> bool:
        """Whether this version is later than what is known of the device."""
        return version > Version(int(self.epoch[number]), int(self.offset[number]))

    def put(self, number: int, version: Version, device: Device | None, parent: int) -> None:
        """Take over what a control record says; `device` None: the registry forgot it. `parent`: number, NO_PARENT."""
        self.epoch[number], self.offset[number] = version.epoch, version.offset
        self.parent[number] = parent
        if device is None:
            self.role[number] = UNREGISTERED
        elif device.state == "removed":
            self.role[number] = REMOVED
        else:
            self.role[number] = self._word(device.role)

    def _word(self, role: str) -> int:
        if role not in self.words:
            self.words.append(role)
        return self.words.index(role)

    def in_policy(self, rules: Rules) -> Int32:
        """Role of the policy for each `role + 2`: what the policy does not name is NO_ROLE."""
        known = [rules.index.get(word, NO_ROLE) for word in self.words]
        return np.array([NO_ROLE, rules.unknown, *known], np.int32)

    def why_no_role(self, number: int) -> str:
        """The reason that a device without a role in the policy is denied."""
        role = int(self.role[number]) if number >= 0 else UNREGISTERED
        if role == REMOVED:
            return "unknown_device: removed from the registry"
        if role == UNREGISTERED:
            return "unknown_device: not in the registry"
        return f"role: the policy in force has no role {self.words[role]!r}"
