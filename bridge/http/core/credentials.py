"""Who may speak for which device: the hashes of tokens, as the registry's records tell."""

import hashlib
import hmac
from typing import Final

from schemas.control import Device, device_of, token_hash
from schemas.errors import ContractError

_NOBODY: Final = token_hash("")
"""Compared with when the device is unknown, so that an answer takes as long as for a known one. No token has this
hash: an empty one is refused before."""


class Credentials:
    """Token hashes by device id. Records are applied by one thread while another one asks."""

    def __init__(self) -> None:
        self._hashes: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._hashes)

    def apply(self, key: str, value: bytes | None) -> None:
        """Take a record of platform.control. Raises ContractError for a broken one; its device is refused from then on.

        A device without a token (never given one, or removed) is not known here.
        """
        device = device_of(key)
        if device is None:
            return
        try:
            found = None if value is None else Device.decode(key, value)
        except ContractError:
            self._hashes.pop(device, None)
            raise
        if found is None or found.state != "active" or not isinstance(found.token, str):
            self._hashes.pop(device, None)
        else:
            self._hashes[device] = found.token

    def allow(self, device: str, authorization: str | None) -> bool:
        """Whether the value of an Authorization header speaks for the device; in constant time for all devices."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        given = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        same = hmac.compare_digest(given.encode(), self._hashes.get(device, _NOBODY).encode())
        return same and scheme.lower() == "bearer" and bool(token)
