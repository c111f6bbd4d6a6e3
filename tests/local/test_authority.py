"""The local certificate authority."""

import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from identity.authority import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("authority"))


def test_it_is_made_once_and_its_key_is_private(tmp_path: Path) -> None:
    first = Authority.open(tmp_path / "ca").certificate_pem
    assert Authority.open(tmp_path / "ca").certificate_pem == first
    assert (tmp_path / "ca" / "ca.key").stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in first


def test_many_at_once_get_the_same_one(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(Authority.open(tmp_path / "ca").certificate_pem)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_client_certificate_names_the_device_and_is_for_clients_only(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.issue_client("sensor-1")[0])
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "sensor-1"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


@pytest.mark.parametrize("name", ["", "a/b", "a+b", "#", "%c", "a b", "a\n", "x" * 65, "ä"])
def test_names_that_could_mean_something_in_a_topic_are_refused(authority: Authority, name: str) -> None:
    with pytest.raises(ValueError, match="CN"):
        authority.issue_client(name)


def test_a_key_of_another_authority_is_noticed(tmp_path: Path) -> None:
    Authority.open(tmp_path / "a")
    Authority.open(tmp_path / "b")
    (tmp_path / "a" / "ca.key").write_bytes((tmp_path / "b" / "ca.key").read_bytes())
    with pytest.raises(ValueError, match="does not belong"):
        Authority.open(tmp_path / "a")


def _contexts(authority: Authority, folder: Path, client: tuple[bytes, bytes]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    pairs = {"server": authority.issue_server(["localhost", "127.0.0.1"]), "client": client}
    for name, (certificate, key) in pairs.items():
        (folder / f"{name}.crt").write_bytes(certificate)
        (folder / f"{name}.key").write_bytes(key)
    trust = authority.certificate_pem.decode()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=trust)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(folder / "server.crt", folder / "server.key")
    device = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=trust)
    device.load_cert_chain(folder / "client.crt", folder / "client.key")
    return server, device


def _handshake(server: ssl.SSLContext, device: ssl.SSLContext, host: str) -> str:
    """A handshake in memory; the name that the server sees."""
    to_server, to_device = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        device.wrap_bio(to_device, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_device, server_side=True),
    ]
    pending = list(ends)
    for _ in range(10):
        for end in list(pending):
            try:
                end.do_handshake()
                pending.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not pending
    subject = ends[1].getpeercert()["subject"]  # type: ignore[index]
    return dict(pair for group in subject for pair in group)["commonName"]  # type: ignore[union-attr,misc]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_device_and_server_know_each_other(authority: Authority, tmp_path: Path, host: str) -> None:
    contexts = _contexts(authority, tmp_path, authority.issue_client("sensor-1"))
    assert _handshake(*contexts, host) == "sensor-1"


def test_a_server_by_another_name_is_refused(authority: Authority, tmp_path: Path) -> None:
    contexts = _contexts(authority, tmp_path, authority.issue_client("sensor-1"))
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(*contexts, "elsewhere")


def test_a_stranger_is_refused(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority.open(tmp_path / "other").issue_client("sensor-1")
    with pytest.raises(ssl.SSLError):
        _handshake(*_contexts(authority, tmp_path, stranger), "localhost")


def test_a_device_cannot_pose_as_the_server(authority: Authority, tmp_path: Path) -> None:
    server, device = _contexts(authority, tmp_path, authority.issue_client("localhost"))
    server.load_cert_chain(tmp_path / "client.crt", tmp_path / "client.key")
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(server, device, "localhost")
