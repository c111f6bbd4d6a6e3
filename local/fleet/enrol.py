"""The fleet's devices in the registry, and certificates for those that need them."""

import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from identity.authority import Authority
from identity.registry.store import DeviceRegistry
from runtime.errors import RefusedError, RetryableError
from runtime.kafka import applied
from runtime.settings import KafkaSettings
from schemas.control import Device

IN_BAND_TIMEOUT_S: Final = 60.0


def register(settings: KafkaSettings, wanted: Sequence[Device], with_token: Iterable[str] = ()) -> dict[str, str]:
    """Enrol who is not enrolled yet, and wait until the relay and bridge-http have applied it.

    Returns tokens of the devices in `with_token` (of those that were enrolled already, new ones). Raises RefusedError
    when an id is taken by a device of another role or parent.
    """
    registry = DeviceRegistry(settings)
    known = {name: device for name, device in registry.devices().items() if device.state == "active"}
    for device in wanted:
        found = known.get(device.id)
        if found is not None and (found.role, found.parent) != (device.role, device.parent):
            raise RefusedError(f"{device.id} is enrolled with role {found.role}, not {device.role}: remove it first")
    new = [device for device in wanted if device.id not in known]
    tokens = registry.register(new) if new else {}
    renewed = [name for name in with_token if name not in tokens]
    tokens |= registry.renew(renewed) if renewed else {}
    if registry.written >= 0:
        late = applied.behind(settings, registry.written, IN_BAND_TIMEOUT_S)
        if late:
            raise RetryableError(
                f"devices are registered, but not yet applied by {', '.join(one.name for one in late)}"
            )
    return tokens


def tls_contexts(ca_file: Path, folder: Path, ids: Sequence[str]) -> dict[str, ssl.SSLContext]:
    """A TLS context with a certificate of its own for each device; certificates are kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = Authority.open(ca_file.parent)
    return {name: _context(authority, ca_file, folder, name) for name in ids}


def _context(authority: Authority, ca_file: Path, folder: Path, name: str) -> ssl.SSLContext:
    file = folder / f"{name}.pem"
    if not file.exists():
        certificate, key = authority.issue_client(name)
        partial = file.with_suffix(".new")
        partial.touch(0o600)
        partial.write_bytes(certificate + key)
        partial.rename(file)
    context = ssl.create_default_context(cafile=ca_file)
    context.load_cert_chain(file)
    return context
