"""The registry: which devices exist, with role, state, parent and the hash of their HTTP token."""

from identity.registry.core import RegistryError
from identity.registry.store import DeviceRegistry

__all__ = ["DeviceRegistry", "RegistryError"]
