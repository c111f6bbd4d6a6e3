"""What a new policy, or new settings, would change: for people, before it is published."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any

import yaml

from schemas.control import Device
from streams.access.policy import Policy


def text_of(plain: Any) -> str:
    """YAML, as `show` prints it."""
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def lines(old: Any, new: Any, old_name: str, new_name: str) -> list[str]:
    """A unified diff of two plain documents; nothing when they are equal. None is no document."""
    before, after = ("" if one is None else text_of(one) for one in (old, new))
    found = unified_diff(before.splitlines(), after.splitlines(), old_name, new_name, lineterm="", n=2)
    return list(found)


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """Roles by how they change. `denied`: by removed role, active devices that would be denied from then on."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    unknown: tuple[str | None, str | None]
    denied: dict[str, int]

    @property
    def takes_away(self) -> bool:
        """Whether devices that may publish now would be denied, or could be."""
        return bool(self.removed) or (self.unknown[0] is not None and self.unknown[1] != self.unknown[0])

    def brief(self) -> str:
        """One line, without devices."""
        parts = [f"+{role}" for role in self.added] + [f"-{role}" for role in self.removed]
        parts += [f"~{role}" for role in self.changed]
        if self.unknown[0] != self.unknown[1]:
            parts.append(f"unknown: {self.unknown[1] or 'denied'}")
        return " ".join(parts) or "the same"

    def summary(self) -> Iterator[str]:
        for word, roles in (("added", self.added), ("changed", self.changed)):
            if roles:
                yield f"{word}: {', '.join(roles)}"
        for role in self.removed:
            yield f"removed: {role}: {self.denied[role]:,} active devices have it and would be denied"
        if self.unknown[0] != self.unknown[1]:
            old, new = (f"have role {role}" if role else "are denied" for role in self.unknown)
            yield f"unknown devices {new}; until now they {old}"


def of_policies(old: Policy | None, new: Policy, devices: Iterable[Device]) -> PolicyChange:
    before = {} if old is None else dict(old.roles)
    removed = tuple(sorted(before.keys() - new.roles.keys()))
    denied = dict.fromkeys(removed, 0)
    for device in devices:
        if device.state == "active" and device.role in denied:
            denied[device.role] += 1
    return PolicyChange(
        added=tuple(sorted(new.roles.keys() - before.keys())),
        removed=removed,
        changed=tuple(sorted(role for role in before.keys() & new.roles.keys() if before[role] != new.roles[role])),
        unknown=(None if old is None else old.unknown, new.unknown),
        denied=denied,
    )
