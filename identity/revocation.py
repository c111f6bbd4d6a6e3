"""Which certificates of devices were issued, and which of them do not count any more.

Two files beside the authority's key: `issued.jsonl`, a line for each certificate of a device, and `ca.crl`, which
mosquitto reads at its start and on SIGHUP. Certificates that have expired leave both.
"""

import fcntl
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from schemas.topics import is_device_id

ISSUED: Final = "issued.jsonl"
CRL: Final = "ca.crl"
_VALID: Final = timedelta(days=3650)
"""A list that expires would refuse every device."""


def note(folder: Path, id: str, certificate: x509.Certificate) -> None:
    """Remember that a device got a certificate. Names that no device can have are left out."""
    if not is_device_id(id):
        return
    line = {"id": id, "serial": f"{certificate.serial_number:x}", "until": certificate.not_valid_after_utc.isoformat()}
    with _locked(folder), (folder / ISSUED).open("ab+") as file:
        torn = b"" if _ends_a_line(file) else b"\n"  # a full disk cut the line before
        file.write(torn + orjson.dumps(line) + b"\n")


def _ends_a_line(file: BinaryIO) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def serials(folder: Path, ids: Collection[str]) -> set[str]:
    """Serial numbers of the certificates that these devices have now, for `revoke`."""
    with _locked(folder):
        return {one["serial"] for one in _issued(folder) if one["id"] in ids}


def revoke(folder: Path, ids: Collection[str], only: Collection[str] | None = None) -> list[str]:
    """Put every certificate that these devices have on the list, or those with the serial numbers `only`; the devices
    that had one. The authority is in `folder`."""
    with _locked(folder):
        issued = list(_issued(folder))
        ended = [one for one in issued if one["id"] in ids and (only is None or one["serial"] in only)]
        if ended:
            _write_list(folder, _listed(folder) | {int(one["serial"], 16): _time(one["until"]) for one in ended})
            gone = {one["serial"] for one in ended}
            kept = b"".join(orjson.dumps(one) + b"\n" for one in issued if one["serial"] not in gone)
            _replace(folder / ISSUED, kept)
    return sorted({one["id"] for one in ended})


def ensure(folder: Path) -> Path:
    """The list's file, an empty one when nothing was revoked yet."""
    with _locked(folder):
        if not (folder / CRL).exists():
            _write_list(folder, {})
    return folder / CRL


def _issued(folder: Path) -> Iterator[dict[str, str]]:
    if (folder / ISSUED).exists():
        for line in (folder / ISSUED).read_bytes().splitlines():
            try:
                found = orjson.loads(line)
            except orjson.JSONDecodeError:  # a line that a full disk cut
                continue
            if _time(found["until"]) > datetime.now(UTC):
                yield found


def _listed(folder: Path) -> dict[int, datetime]:
    """Serial numbers on the list, and when each was put there."""
    if not (folder / CRL).exists():
        return {}
    found = x509.load_pem_x509_crl((folder / CRL).read_bytes())
    return {one.serial_number: one.revocation_date_utc for one in found}


def _write_list(folder: Path, serials: dict[int, datetime]) -> None:
    key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificates((folder / "ca.crt").read_bytes())[0].subject
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer).last_update(now - timedelta(hours=1))
    builder = builder.next_update(now + _VALID).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
    )
    for serial in serials:
        one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = builder.add_revoked_certificate(one)
    _replace(folder / CRL, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _replace(file: Path, data: bytes) -> None:
    temporary = file.with_name(f".{file.name}.new")
    temporary.touch(mode=0o600)
    temporary.write_bytes(data)
    temporary.replace(file)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "revocation.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
