"""What may change in the registry, as functions of what is known: devices in, changed devices out. No Kafka, no clock.

Every function raises RegistryError with all mistakes of a call at once, and then nothing of the call is done.
"""

import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from runtime.errors import MillraceError
from schemas.control import ACTIVE, REMOVED, UNKNOWN, Device, token_hash
from schemas.topics import is_device_id, is_name

TOKEN_BYTES: Final = 32
MAX_LABELS: Final = 32
MAX_LABEL_CHARS: Final = 256

Known = Mapping[str, Device]
"""Devices by id, removed ones included."""


class RegistryError(MillraceError):
    """A change that is refused. `mistakes` has one line each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = list(mistakes)


def new_token() -> str:
    """256 random bits as text that needs no quoting in a header, a URL or a shell."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def add(known: Known, wanted: Sequence[Device], roles: Collection[str] | None) -> list[Device]:
    """Devices that may be enrolled, as they are to be recorded. `roles` are those of the policy; None: any will do.

    An id that was removed, or whose record cannot be read, may be enrolled again. A parent may be enrolled in the same
    call.
    """
    coming = {device.id for device in wanted}
    mistakes = _twice(device.id for device in wanted)
    for device in wanted:
        mistakes += _id(device.id)
        mistakes += _taken(known, device.id)
        mistakes += [f"{device.id}: {text}" for text in _role(device.role, roles)]
        mistakes += [f"{device.id}: {text}" for text in _parent(known, coming, device)]
        mistakes += [f"{device.id}: {text}" for text in _labels(device.labels)]
    _refuse(mistakes)
    return [replace(device, state=ACTIVE) for device in wanted]


def remove(known: Known, ids: Sequence[str]) -> list[Device]:
    """The devices marked as removed, without their token, whatever state they are in. The record stays: history must
    know what there was."""
    children = _children(known)
    mistakes = _twice(ids) + _not_enrolled(known, ids)
    for device in ids:
        left = sorted(children.get(device, set()) - set(ids))
        if left:
            mistakes.append(f"{device}: is the parent of {_some(left)}; remove those too")
    _refuse(mistakes)
    return [replace(known[device], state=REMOVED, token=None) for device in ids]


def change_role(known: Known, ids: Sequence[str], role: str, roles: Collection[str] | None) -> list[Device]:
    """The devices with another role; their tokens stay as they are."""
    _refuse(_twice(ids) + _not_active(known, ids) + _role(role, roles))
    return [replace(known[device], role=role) for device in ids]


def enrolled(known: Known, ids: Sequence[str]) -> list[Device]:
    """The devices, to be given new tokens or certificates."""
    _refuse(_twice(ids) + _not_active(known, ids))
    return [known[device] for device in ids]


def with_tokens(devices: Sequence[Device]) -> tuple[list[Device], dict[str, str]]:
    """Each device with the hash of a new token, and the tokens by id: they exist nowhere else."""
    tokens = {device.id: new_token() for device in devices}
    return [replace(device, token=token_hash(tokens[device.id])) for device in devices], tokens


def _refuse(mistakes: list[str]) -> None:
    if mistakes:
        raise RegistryError(mistakes)


def _is_active(known: Known, device: str) -> bool:
    return device in known and known[device].is_active


def _taken(known: Known, device: str) -> list[str]:
    found = known.get(device)
    if found is None or found.state in (REMOVED, UNKNOWN):
        return []
    if found.is_active:
        return [
            f"{device}: is enrolled already, with role {found.role}; `millrace device renew {device} --cert DIR` issues"
            " another certificate"
        ]
    return [f"{device}: is enrolled, in state {found.state!r}, which this release does not know; remove it first"]


def _id(device: str) -> list[str]:
    if is_device_id(device):
        return []
    return [f"{device[:80]!r}: a device id must match [a-z0-9-]{{1,64}}"]


def _twice(ids: Iterable[str]) -> list[str]:
    return [f"{device}: is given {count} times" for device, count in Counter(ids).items() if count > 1]


def _not_enrolled(known: Known, ids: Sequence[str]) -> list[str]:
    mistakes = []
    for device in dict.fromkeys(ids):
        if device not in known:
            mistakes += _id(device) or [f"{device}: no such device"]
        elif known[device].state == REMOVED:
            mistakes.append(f"{device}: was removed")
    return mistakes


def _not_active(known: Known, ids: Sequence[str]) -> list[str]:
    mistakes = _not_enrolled(known, ids)
    for device in dict.fromkeys(ids):
        if device in known and known[device].state not in (ACTIVE, REMOVED):
            mistakes.append(_strange(known[device]))
    return mistakes


def _strange(device: Device) -> str:
    if device.state == UNKNOWN:
        return f"{device.id}: its record cannot be read; run `millrace device remove {device.id}`, or enrol it again"
    return f"{device.id}: is in state {device.state!r}, which this release does not know"


def _role(role: str, roles: Collection[str] | None) -> list[str]:
    if not is_name(role):
        return [f"role {role[:80]!r} must match [A-Za-z0-9_.-]{{1,64}}"]
    if roles is not None and role not in roles:
        return [f"the policy has no role {role!r}; it has {', '.join(sorted(roles)) or 'none'}"]
    return []


def _parent(known: Known, coming: set[str], device: Device) -> list[str]:
    parent = device.parent
    if parent is None:
        return []
    if parent == device.id:
        return ["cannot be its own parent"]
    if not _is_active(known, parent) and parent not in coming:
        return [f"its parent {parent[:80]!r} is not enrolled"]
    return []


def _labels(labels: Mapping[str, str]) -> list[str]:
    mistakes = [f"label {key[:80]!r} must match [A-Za-z0-9_.-]{{1,64}}" for key in labels if not is_name(key)]
    mistakes += [
        f"label {key}: its value is longer than {MAX_LABEL_CHARS} characters"
        for key, value in labels.items()
        if len(value) > MAX_LABEL_CHARS
    ]
    if len(labels) > MAX_LABELS:
        mistakes.append(f"has {len(labels)} labels; at most {MAX_LABELS}")
    return mistakes


def _children(known: Known) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for device in known.values():
        if device.parent is not None and device.state != REMOVED:
            found.setdefault(device.parent, set()).add(device.id)
    return found


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
