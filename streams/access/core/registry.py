"""Role and parent of each device, from the registry's control records, by device number."""

from typing import Final

import numpy as np

from runtime.columns.types import Int32, Int64
from schemas.control import REMOVED as REMOVED_STATE
from schemas.control import Device
from schemas.headers import Version
from streams.access.core.rules import NO_ROLE, Rules

UNREGISTERED: Final = -1
REMOVED: Final = -2
STATE_UNKNOWN: Final = -3
"""Its record cannot be read, or is in a state that this release does not know."""
_SPECIAL: Final = 3
"""So many roles are below zero."""
NO_PARENT: Final = -1


class DeviceRoles:
    """`role`: int32[devices], a place in `words`, or UNREGISTERED, REMOVED or STATE_UNKNOWN; `parent`: device number or
    NO_PARENT; `epoch`, `offset`: version of what is known, -1 when nothing is."""

    def __init__(self, capacity: int) -> None:
        self.words: list[str] = []
        self._newest_epoch = -1
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

    def put(self, number: int, version: Version, device: Device, parent: int) -> None:
        """Apply a control record. `parent`: number or NO_PARENT."""
        if version.epoch > self.newest_epoch:
            self._new_epoch(version.epoch)
        self.epoch[number], self.offset[number] = version.epoch, version.offset
        self.parent[number] = parent
        if device.is_active:
            self.role[number] = self._word(device.role)
        else:
            self.role[number] = REMOVED if device.state == REMOVED_STATE else STATE_UNKNOWN

    @property
    def newest_epoch(self) -> int:
        return self._newest_epoch

    def _new_epoch(self, epoch: int) -> None:
        """`platform.control` was created again: a child that a gateway had by the topic before is its child only when
        a record of the new one says so."""
        if self._newest_epoch >= 0:
            self.parent[:] = NO_PARENT
        self._newest_epoch = epoch

    def restored(self) -> None:
        """The arrays were loaded from a snapshot."""
        self._newest_epoch = int(self.epoch.max(initial=-1))

    def _word(self, role: str) -> int:
        if role not in self.words:
            self.words.append(role)
        return self.words.index(role)

    def in_policy(self, rules: Rules) -> Int32:
        """Role of the policy for each `role`, to be looked up by `place`: what the policy does not name is NO_ROLE."""
        known = [rules.index.get(word, NO_ROLE) for word in self.words]
        return np.array([NO_ROLE, NO_ROLE, rules.unknown, *known], np.int32)

    @staticmethod
    def place(roles: Int32) -> Int32:
        """Where `in_policy` has these roles."""
        return roles + np.int32(_SPECIAL)

    def why_no_role(self, number: int) -> str:
        """The reason that a device without a role in the policy is denied."""
        role = int(self.role[number]) if number >= 0 else UNREGISTERED
        if role == REMOVED:
            return "unknown_device: removed from the registry"
        if role == STATE_UNKNOWN:
            return "unknown_device: its state in the registry is unknown"
        if role == UNREGISTERED:
            return "unknown_device: not in the registry"
        return f"role: the policy in force has no role {self.words[role]!r}"
