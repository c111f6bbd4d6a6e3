"""The registry in `platform.control`: what is read is what Kafka holds, a change is done when Kafka has it all.

A change is compare-and-set (control/log.py): of two calls about the same device at the same moment the second one is
decided by what the first one wrote.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar

import orjson

from control import log
from control.decisions import newest_good
from control.log import Change, NewDecision, View
from identity.registry import core
from runtime.settings import KafkaSettings
from schemas.control import (
    ANY,
    FORMAT_HEADER,
    FORMER_HEADER,
    GOOD,
    POLICY_KEY,
    Device,
    device_key,
    device_of,
    former_parents,
    read_device,
)
from schemas.errors import ContractError
from schemas.topics import is_device_id

T = TypeVar("T")
_PREFIX: Final = device_key("").encode()
_POLICY: Final = (POLICY_KEY.encode(), (GOOD + POLICY_KEY).encode())
_MANY_PARENTS: Final = 16
"""A device that had more parents before goes to every partition."""


class DeviceRegistry:
    """Reads and changes the registry. Blocking; raises RetryableError when Kafka cannot be reached.

    `written`: position in `platform.control` after the last change, -1 before the first; runtime.kafka.applied waits
    for it.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.written = -1

    def devices(self, role: str | None = None) -> dict[str, Device]:
        """Every device ever enrolled, or those of a role, by id; removed ones have state `removed`, those whose record
        cannot be read `unknown`."""
        named = None if role is None else role.encode()
        view = log.read(
            self._settings,
            lambda key, value: key.startswith(_PREFIX) and (named is None or (value is not None and named in value)),
        )
        found = _known(view)
        return found if role is None else {name: d for name, d in found.items() if d.role == role}

    def device(self, id: str) -> Device | None:
        """One device, removed or not; None when it was never enrolled."""
        key = device_key(id).encode()
        return _known(log.read(self._settings, lambda found, _: found == key)).get(id)

    def register(self, wanted: Sequence[Device]) -> dict[str, str]:
        """Enrol devices; returns their tokens by id. All or none: raises RegistryError with every mistake.

        One read and one transaction for the whole call: ten thousand devices take about as long as one.
        """
        named = {device.id for device in wanted} | {device.parent for device in wanted if device.parent is not None}

        def decide(known: core.Known, roles: Collection[str] | None) -> tuple[list[Device], dict[str, str]]:
            return core.with_tokens(core.add(known, wanted, roles))

        return self._change(named, decide)

    def remove(self, ids: Sequence[str]) -> None:
        """End devices: their tokens are refused and their messages denied once every reader has applied it. Raises
        RegistryError."""
        self._change(ids, lambda known, _: (core.remove(known, ids), None), with_children=True)

    def change_role(self, ids: Sequence[str], role: str) -> None:
        """Give devices another role. Raises RegistryError."""
        self._change(ids, lambda known, roles: (core.change_role(known, ids, role, roles), None))

    def renew(self, ids: Sequence[str]) -> dict[str, str]:
        """New tokens by id; the old ones end. Raises RegistryError."""
        return self._change(ids, lambda known, _: core.with_tokens(core.enrolled(known, ids)))

    def versions(self, ids: Sequence[str]) -> dict[str, int]:
        """By id the offset of a device's newest record. Raises RegistryError unless all of them are enrolled."""
        keys = {device_key(name).encode() for name in ids}
        view = log.read(self._settings, lambda key, _: key in keys)
        core.enrolled(_known(view), ids)
        return {name: view.records[device_key(name).encode()].offset() or 0 for name in ids}

    def _change(
        self,
        ids: Collection[str],
        decide: Callable[[core.Known, Collection[str] | None], tuple[list[Device], T]],
        with_children: bool = False,
    ) -> T:
        keys = {device_key(name).encode() for name in ids}.union(_POLICY)

        def matters(key: bytes, value: bytes | None) -> bool:
            if key in keys:
                return True
            if not with_children or value is None or not key.startswith(_PREFIX):
                return False
            return b'"parent":null' not in value or b'"parent":"' in value  # without decoding a million records

        def decided(view: View) -> Change[T]:
            devices, answer = decide(_known(view), _roles(view))
            return Change([_record(view, device) for device in devices], answer)

        written = log.change(self._settings, matters, decided)
        if written.position >= 0:
            self.written = written.position
        return written.answer


def _known(view: View) -> dict[str, Device]:
    found = {}
    for key, message in view.records.items():
        name = key.decode("utf-8", "replace")
        device = device_of(name)
        if device is not None and is_device_id(device):
            found[device] = read_device(name, message.value())[0]
    return found


def _roles(view: View) -> Collection[str] | None:
    """Roles of the policy in force; None when there is none that can be read."""
    found = newest_good(view, POLICY_KEY, _role_names)
    return None if found is None else found.value


def _role_names(value: bytes) -> list[str]:
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ContractError(f"the policy is not valid JSON: {error}") from None
    if not isinstance(body, Mapping) or not isinstance(body.get("roles"), Mapping):
        raise ContractError("the policy has no roles")
    return list(body["roles"])


def _record(view: View, device: Device) -> NewDecision:
    former = _former(view, device)
    headers = [(FORMER_HEADER, former.encode())] if former else []
    return NewDecision(device_key(device.id), device.encode(), headers)


def _former(view: View, device: Device) -> str:
    """Parents that the device had, for the header: partitions that still hold it as a child must receive the change."""
    key = device_key(device.id)
    before = view.get(key)
    if before is None or not before.value():
        return ""
    old, broken = read_device(key, before.value())
    headers = log.headers_of(before)
    known = former_parents(headers) if FORMAT_HEADER in headers else ()
    if broken is not None or known is None:
        return ANY
    names = sorted({*known, *([old.parent] if old.parent else [])} - {device.parent})
    return ",".join(names) if len(names) <= _MANY_PARENTS else ANY
