"""Replaces the certificate authority without a moment in which a valid certificate is rejected.

trust: a new key (`next.key`) is there, `ca.crt` names both authorities, the old one issues. When all know both:
switch: the new one issues, both are trusted. When all have certificates of the new one:
end: only the one that issues is trusted. Before a switch that is the old one: it undoes `trust`.

A step that was cut off is done again as a whole; each holds the folder's lock.
"""

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from identity.authority import KEY, TRUSTED, make_pair, pem, public_bytes, write_file
from runtime.errors import RefusedError

NEXT: Final = "next.key"


def trust(folder: Path) -> None:
    """Raises RefusedError where an authority is being replaced already and its old one still trusted."""
    trusted, ahead = _trusted(folder), _next(folder, _trusted(folder))
    if ahead:
        return
    if len(trusted) > 1:
        raise RefusedError(f"{folder}: the last change of authority is not finished: `--authority end` first")
    key, certificate = make_pair()
    write_file(folder / NEXT, pem(key), 0o600)
    _write_trusted(folder, [*trusted, certificate])


def switch(folder: Path) -> None:
    """One rename: `ca.key` always belongs to one of `ca.crt`. Raises RefusedError where there is no other."""
    trusted = _trusted(folder)
    if _next(folder, trusted):
        (folder / NEXT).replace(folder / KEY)
    elif len(trusted) < 2:
        raise RefusedError(f"{folder}: there is no new authority to switch to: `--authority trust` first")


def end(folder: Path) -> None:
    """Trust the one that issues and no other."""
    own = _public(folder / KEY)
    _write_trusted(folder, [one for one in _trusted(folder) if public_bytes(one.public_key()) == own])
    (folder / NEXT).unlink(missing_ok=True)


STEPS: Final[dict[str, Callable[[Path], None]]] = {"trust": trust, "switch": switch, "end": end}


def step(name: str, folder: Path) -> None:
    """Do one of STEPS to the authority in `folder`, which is there."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        STEPS[name](folder)


def _trusted(folder: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates((folder / TRUSTED).read_bytes())


def _next(folder: Path, trusted: list[x509.Certificate]) -> bool:
    """Whether the next authority's key is there, and its certificate trusted."""
    file = folder / NEXT
    return file.exists() and _public(file) in {public_bytes(one.public_key()) for one in trusted}


def _public(key: Path) -> bytes:
    return public_bytes(serialization.load_pem_private_key(key.read_bytes(), None).public_key())


def _write_trusted(folder: Path, certificates: list[x509.Certificate]) -> None:
    data = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)
    write_file(folder / TRUSTED, data, 0o644)
