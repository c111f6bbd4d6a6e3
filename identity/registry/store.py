"""The registry in `platform.control`: what is read is what Kafka holds, a change is done when Kafka acknowledged it.

A change is read, checked and written without a lock: of two calls about the same device at the same moment the later
one counts.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from identity.registry import core
from runtime.kafka.produce import NewRecord, produce_confirmed
from runtime.kafka.topics import read_control
from runtime.settings import KafkaSettings
from schemas.control import POLICY_KEY, Device, device_key, device_of
from schemas.topics import CONTROL


class Registry:
    """Reads and changes the registry. Blocking; raises RetryableError when Kafka cannot be reached."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def devices(self) -> dict[str, Device]:
        """Every device ever enrolled, by id; removed ones have state `removed`."""
        return self._read()[0]

    def register(self, wanted: Sequence[Device]) -> dict[str, str]:
        """Enrol devices; returns their tokens by id. All or none: raises RegistryError with every mistake.

        One read and one write for the whole call: ten thousand devices take about as long as one.
        """
        known, roles = self._read()
        devices, tokens = core.with_tokens(core.add(known, wanted, roles))
        self._write(devices)
        return tokens

    def remove(self, ids: Sequence[str]) -> None:
        """End devices: their tokens are refused within a second, their messages denied from this moment's offset on."""
        self._write(core.remove(self._read()[0], ids))

    def change_role(self, ids: Sequence[str], role: str) -> None:
        known, roles = self._read()
        self._write(core.change_role(known, ids, role, roles))

    def renew(self, ids: Sequence[str]) -> dict[str, str]:
        """New tokens by id; the old ones end."""
        devices, tokens = core.with_tokens(core.renew(self._read()[0], ids))
        self._write(devices)
        return tokens

    def _read(self) -> tuple[dict[str, Device], list[str] | None]:
        """Devices by id, and the roles of the policy in force; None when there is no policy yet."""
        records = read_control(self._settings)
        devices = {d: Device.decode(key, value) for key, (_, value) in records.items() if (d := device_of(key))}
        policy: dict[str, Any] | None = orjson.loads(records[POLICY_KEY][1]) if POLICY_KEY in records else None
        return devices, None if policy is None else list(policy.get("roles", ()))

    def _write(self, devices: Sequence[Device]) -> None:
        produce_confirmed(
            self._settings, (NewRecord(CONTROL, device.encode(), key=device_key(device.id)) for device in devices)
        )
