"""A small certificate authority: a folder with its key and certificate, which issues server and client certificates.

ECDSA P-256 throughout. The CA's key (`ca.key`, mode 0600) never leaves the folder; `ca.crt` is what servers and devices
trust. A device's certificate has CN = device id and may only authenticate clients; a server's may only authenticate
servers, so that a stolen device key cannot pose as the platform.
"""

import fcntl
import ipaddress
import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from identity import revocation

CA_DAYS: Final = 3650
SERVER_DAYS: Final = 825
CLIENT_DAYS: Final = 825
KEY: Final = "ca.key"
TRUSTED: Final = "ca.crt"
_BACKDATED: Final = timedelta(hours=1)
"""Devices' clocks run behind: a certificate is valid from an hour before it was made."""

_is_common_name = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch
"""MQTT user names become parts of topics and access lists: no `/`, `+`, `#`, `%` and no white space."""


class Authority:
    """An authority that is open. Use `open`."""

    def __init__(self, folder: Path, key: ec.EllipticCurvePrivateKey, trusted: list[x509.Certificate]) -> None:
        self._folder = folder
        self._key = key
        self._trusted = trusted
        self._certificate = next(one for one in trusted if one.public_key() == key.public_key())

    @classmethod
    def open(cls, folder: Path) -> "Authority":
        """Open the authority in `folder`; make it at the first time. Safe when several processes open it at once.

        Raises ValueError when key and certificate do not belong together.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / TRUSTED).exists():
                _create(folder)
            key = serialization.load_pem_private_key((folder / KEY).read_bytes(), None)
            trusted = x509.load_pem_x509_certificates((folder / TRUSTED).read_bytes())
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() not in [c.public_key() for c in trusted]:
            raise ValueError(f"{folder}: ca.key does not belong to ca.crt; restore a matching pair")
        return cls(folder, key, trusted)

    @property
    def certificate_pem(self) -> bytes:
        """What servers and devices trust: this authority's certificate, and while one takes the place of another
        (identity/rollover.py) both."""
        return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in self._trusted)

    def issue_client(self, cn: str, days: int = CLIENT_DAYS) -> tuple[bytes, bytes]:
        """(certificate, private key) as PEM for the client `cn`: a device id, or a service's name. A device's is noted,
        so that it can be revoked.

        Raises ValueError when `cn` could mean something else in a topic or an access list.
        """
        if not _is_common_name(cn):
            raise ValueError(f"{cn!r} cannot be a certificate's CN: expected [A-Za-z0-9_.-]{{1,64}}")
        certificate, key = self._issue(cn, days, [ExtendedKeyUsageOID.CLIENT_AUTH], None)
        revocation.note(self._folder, cn, x509.load_pem_x509_certificate(certificate))
        return certificate, key

    def issue_server(self, names: Iterable[str], days: int = SERVER_DAYS) -> tuple[bytes, bytes]:
        """(certificate, private key) as PEM for a server reached by any of `names`, host names or IP addresses."""
        names = list(names)
        return self._issue(names[0], days, [ExtendedKeyUsageOID.SERVER_AUTH], names)

    def issue_node(self, cn: str, names: Iterable[str], days: int = SERVER_DAYS) -> tuple[bytes, bytes]:
        """The same for a server that is a client of its equals, too (a Kafka broker), known to them as `cn`."""
        return self._issue(cn, days, [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH], list(names))

    def _issue(
        self, cn: str, days: int, usages: list[x509.ObjectIdentifier], names: list[str] | None
    ) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(cn), self._certificate.subject, key, days)
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM), pem(key)


def make_pair() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A new authority's key and certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Millrace device authority")
    certificate = (
        _builder(name, name, key, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _create(folder: Path) -> None:
    key, certificate = make_pair()
    write_file(folder / KEY, pem(key), 0o600)
    write_file(folder / TRUSTED, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(cn: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)])


def _general(name: str) -> x509.GeneralName:
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


def _usage(digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def public_bytes(key: PublicKeyTypes) -> bytes:
    """A public key as bytes, to compare."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_file(file: Path, data: bytes, mode: int) -> None:
    """Whole or not at all; a secret is never readable by others, not even for a moment."""
    descriptor, temporary = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    os.chmod(temporary, mode)
    os.replace(temporary, file)
