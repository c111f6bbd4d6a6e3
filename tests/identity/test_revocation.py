"""A certificate ends with its enrolment, against a real mosquitto."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from cryptography import x509

from identity import revocation
from identity.authority import Authority
from local import certificates, status
from local.engines.mosquitto import Mosquitto
from local.platform import AUTHORITY, BRIDGE_CLIENT
from local.ports import LOOPBACK, free
from runtime.mqtt import Connect, encode
from tests.servers import Server
from tests.support.service import until


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Server[Mosquitto]]:
    """mosquitto as `millrace up` has it in the data folder `tmp_path`."""
    server = Server(Mosquitto(tmp_path / "mosquitto", tmp_path / AUTHORITY, free()[0], None, BRIDGE_CLIENT))
    server.start()
    assert server.process is not None
    (tmp_path / "run").mkdir()
    with status.lock(tmp_path):
        found = {"services": [{"name": "mosquitto", "pid": server.process.pid, "restarts": 0}]}
        (tmp_path / "run" / "status.json").write_bytes(orjson.dumps(found))
        yield server
    server.kill()


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    """Connections to close."""
    found: list[socket.socket] = []
    yield found
    for one in found:
        one.close()


class Client:
    """A device with its certificate, on a TLS connection of its own."""

    def __init__(self, folder: Path, id: str, opened: list[socket.socket]) -> None:
        self.authority, self.id, self.opened = Authority.open(folder / AUTHORITY), id, opened
        self.file = folder / f"{id}-{len(list(folder.glob('*.pem')))}.pem"
        self.file.write_bytes(b"".join(self.authority.issue_client(id)))

    def connect(self, port: int) -> ssl.SSLSocket | None:
        """The connection after CONNACK; None when the broker refuses the certificate."""
        context = ssl.create_default_context(cadata=self.authority.certificate_pem.decode())
        context.load_cert_chain(self.file)
        plain = socket.create_connection((LOOPBACK, port), 10)
        try:
            connection = context.wrap_socket(plain, server_hostname="localhost")
            self.opened.append(connection)
            connection.sendall(encode(Connect(self.id, True)))
            if connection.recv(4)[:1] == b"\x20":
                return connection
        except (ssl.SSLError, ConnectionError):
            pass
        plain.close()
        return None


def closed(connection: ssl.SSLSocket) -> bool:
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_an_old_certificate_does_not_work_again_after_its_id_was_enrolled_anew(
    broker: Server[Mosquitto], tmp_path: Path, opened: list[socket.socket]
) -> None:
    port = broker.engine.tls_port
    old, other = Client(tmp_path, "twin", opened), Client(tmp_path, "other", opened)
    connected, stays = old.connect(port), other.connect(port)
    assert connected is not None and stays is not None
    assert certificates.end(tmp_path, ["twin"]) == (1, ""), "removed"
    assert closed(connected), "the open connection ends"
    until(lambda: old.connect(port) is None, 20, "the broker has read the list")
    assert certificates.end(tmp_path, ["twin"]) == (0, ""), "enrolled again"
    new = Client(tmp_path, "twin", opened)
    again = new.connect(port)
    assert again is not None and old.connect(port) is None
    stays.settimeout(0.2)
    assert not closed(stays), "nobody else is disconnected"
    broker.stop()
    broker.start()
    assert old.connect(port) is None and new.connect(port) is not None, "a restart knows the list"


def test_a_renewed_certificate_works_beside_the_old_one_until_that_is_revoked(
    broker: Server[Mosquitto], tmp_path: Path, opened: list[socket.socket]
) -> None:
    port = broker.engine.tls_port
    old = Client(tmp_path, "renewed", opened)
    earlier = revocation.serials(tmp_path / AUTHORITY, {"renewed"})
    new = Client(tmp_path, "renewed", opened)
    assert new.connect(port) is not None
    connected = old.connect(port)
    assert connected is not None, "no gap: both are valid"
    assert certificates.end(tmp_path, ["renewed"], earlier) == (1, "")
    assert closed(connected)
    until(lambda: old.connect(port) is None, 20, "the broker has read the list")
    assert new.connect(port) is not None
    assert certificates.end(tmp_path, ["renewed"]) == (1, ""), "the new one ends with the enrolment"
    until(lambda: new.connect(port) is None, 20, "the broker has read the list")


def test_a_certificate_issued_after_a_full_disk_cut_a_line_can_be_revoked(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    authority.issue_client("before")
    with (tmp_path / revocation.ISSUED).open("ab") as file:
        file.write(b'{"id": "to')
    authority.issue_client("after")
    assert revocation.revoke(tmp_path, {"before", "after"}) == ["after", "before"]


def test_expired_certificates_leave_the_notes_and_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    authority.issue_client("gone", days=0)
    authority.issue_client("here")
    with (tmp_path / revocation.ISSUED).open("ab") as file:
        file.write(b'{"id": "to')
    assert revocation.revoke(tmp_path, {"gone", "here", "never"}) == ["here"]
    assert len(x509.load_pem_x509_crl((tmp_path / revocation.CRL).read_bytes())) == 1
    assert (tmp_path / revocation.ISSUED).read_bytes() == b""
