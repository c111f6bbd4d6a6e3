"""Authenticates devices: the hashes of tokens, from the registry's records.

A million devices take 40 MB: the hashes of ids (64 bits, keyed by the process, so that nobody can look for two that
collide) and of tokens (32 bytes) in sorted arrays, and what changed since in a dictionary.
"""

import hashlib
import hmac
import re
from collections.abc import Collection
from typing import Any, Final

import numpy as np

from schemas.control import device_key, device_of, read_device
from schemas.topics import is_device_id

_NOBODY: Final = hashlib.sha256(b"").digest()
"""Compared with when the device is unknown, so that an answer takes as long as for a known one. No token has this
hash: an empty one is refused before."""
_RECENT: Final = 50_000
"""Changes above which they are merged into the arrays."""
_DIGEST: Final = np.dtype("V32")
_KEY: Final = device_key("").encode()
_STRING: Final = rb'"[^"\\\x00-\x1f\x80-\xff]*"'
_PAIR: Final = _STRING + rb":" + _STRING
_usual = re.compile(
    rb'\{"id":"([a-z0-9-]{1,64})","labels":\{(?:'
    + _PAIR
    + rb"(?:,"
    + _PAIR
    + rb')*)?\},"parent":(?:null|"[a-z0-9-]{1,64}"),'
    rb'"role":"[A-Za-z0-9_.-]{1,64}","state":"active","token":"([0-9a-f]{64})"\}'
).fullmatch
"""What `Device.encode` writes of nearly every device: a tenth of the time of decoding it. It only ever says yes."""
_is_digest = re.compile(r"[0-9a-f]{64}").fullmatch


class Credentials:
    """Token hashes by device id. Records are applied by one thread while another one asks."""

    def __init__(self) -> None:
        self._base: tuple[Any, Any] = (np.zeros(0, np.uint64), np.zeros(0, _DIGEST))
        self._recent: dict[str, bytes | None] = {}
        self._merge_at = _RECENT
        self._count: int | None = None
        """Kept from the first question on: while a registry is loaded nobody asks, and it would double the time."""

    def __len__(self) -> int:
        if self._count is None:
            self._count = self._counted()
        return self._count

    def _counted(self) -> int:
        ids = self._base[0]
        known = int(np.isin(_hashes(self._recent), ids).sum())
        return len(ids) - known + sum(found is not None for found in self._recent.values())

    def apply(self, key: bytes, value: bytes | None) -> str | None:
        """Take a record of platform.control; what is wrong with it, if anything: its device is refused then.

        A device without a token (never given one, removed, or in any state but active) is not known here.
        """
        if not key.startswith(_KEY):
            return None
        quick = _usual(value) if value else None
        if quick is not None and key == _KEY + quick[1]:
            self._put(quick[1].decode(), bytes.fromhex(quick[2].decode()))
            return None
        name = key.decode("utf-8", "replace")
        device = device_of(name) or ""
        if not is_device_id(device):
            return None
        found, broken = read_device(name, value)
        speaks = found.is_active and found.token is not None and _is_digest(found.token)
        self._put(device, bytes.fromhex(found.token or "") if speaks else None)
        return broken

    def _put(self, device: str, digest: bytes | None) -> None:
        if self._count is not None:
            self._count += (digest is not None) - (self._find(device) is not _NOBODY)
        self._recent[device] = digest
        if len(self._recent) >= self._merge_at:
            self._merge()

    def allow(self, device: str, authorization: str | None) -> bool:
        """Whether the value of an Authorization header authenticates the device; in constant time for all devices."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        given = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        same = hmac.compare_digest(given, self._find(device))
        return same and scheme.lower() == "bearer" and bool(token)

    def _find(self, device: str) -> bytes:
        recent, missing = self._recent, object()
        found = recent.get(device, missing)
        ids, digests = self._base  # after `_recent`: `_merge` replaces them the other way round
        place = int(np.searchsorted(ids, _hash(device)))
        if found is missing:
            found = digests[place].tobytes() if place < len(ids) and ids[place] == _hash(device) else None
        return found if isinstance(found, bytes) else _NOBODY

    def _merge(self) -> None:
        ids, digests = self._base
        changed = _hashes(self._recent)
        stay = ~np.isin(ids, changed)
        speaks = np.array([found is not None for found in self._recent.values()], bool)
        added = np.frombuffer(b"".join(filter(None, self._recent.values())), _DIGEST)
        ids, digests = np.concatenate([ids[stay], changed[speaks]]), np.concatenate([digests[stay], added])
        order = np.argsort(ids)
        self._base = ids[order], digests[order]
        self._recent = {}
        self._merge_at = max(_RECENT, len(order) // 4)


def _hash(device: str) -> np.uint64:
    return np.uint64(hash(device) & 0xFFFF_FFFF_FFFF_FFFF)


def _hashes(devices: Collection[str]) -> Any:
    """`_hash` of each, as an array."""
    return np.fromiter(map(hash, devices), np.int64, len(devices)).view(np.uint64)
