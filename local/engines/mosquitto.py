"""mosquitto: a unix socket for the bridge, mutual TLS for devices, and plain loopback for trying out. It runs in its
folder, and its configuration names files relative to it: no name of a data folder can break the configuration's syntax.

Who may do what stands in one access list: `pattern … %c` for devices, whose client id is their certificate's CN (TLS)
or stands for the identity (plain loopback), and one user, the bridge, who may do everything and has a password; the
watch, which reads mosquitto's own figures, is the same user here.
"""

import base64
import getpass
import hashlib
import logging
import os
import secrets
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import quote

from identity import revocation
from identity.authority import Authority
from local import files, ports
from local.engines import mqtt, queue_file
from local.engines.queue_file import LAST, SAVED
from local.programs import Program, ProgramError, launch

log = logging.getLogger(__name__)

BRIDGE_USER: Final = "millrace_bridge"
"""No device can have this name: `_` is not in the grammar of device ids."""

_TEMPLATE: Final = Path(__file__).with_name("mosquitto.conf")
_SOCKET: Final = "socket/mqtt"
_SOCKET_BYTES: Final = 107
"""The longest path of a unix socket; longer folders get a socket under $XDG_RUNTIME_DIR or the temporary folder."""

_ACCESS: Final = f"""\
pattern write d/%c/#
pattern read c/%c/#
user {BRIDGE_USER}
topic readwrite #
topic read $SYS/broker/log/N
topic read $SYS/broker/store/#
topic read $SYS/broker/publish/#
topic read $SYS/broker/clients/connected
topic read $SYS/broker/heap/current
"""
_TLS: Final = """
# devices: client id = user name = CN of the certificate
listener {port} 127.0.0.1
cafile ca.crt
certfile server.crt
keyfile server.key
require_certificate true
use_identity_as_username true
use_username_as_clientid true
tls_version tlsv1.2
"""
_PLAIN: Final = """
# devices without TLS, for trying out: the client id stands for the identity
listener {port} 127.0.0.1
"""
_BRIDGE: Final = """
# the bridge: a socket in a folder that only we may enter; last, so that when it answers all the others do
listener 0 {socket}
"""


@dataclass(frozen=True, slots=True)
class Mosquitto:
    """One broker. `plain_port` None: devices must use TLS. `bridge_client` is the client id of the bridge."""

    folder: Path
    authority: Path
    tls_port: int
    plain_port: int | None
    bridge_client: str

    @property
    def bridge_url(self) -> str:
        return f"unix://{quote(str(self.socket))}"

    @property
    def bridge_password_file(self) -> Path:
        return self.folder / "bridge.password"

    @property
    def socket(self) -> Path:
        usual = self.folder / _SOCKET
        if len(os.fsencode(usual)) <= _SOCKET_BYTES:
            return usual
        short = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        elsewhere = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
        return elsewhere / f"millrace-{os.getuid()}-{short}" / "mqtt"

    def program(self) -> Program:
        """Write configuration, passwords and certificates; at the first start, make the bridge's session."""
        self._configure()
        self._mend()
        if not (self.folder / SAVED).exists():
            self._make_bridge_session()
        return self._program("mosquitto.conf")

    def _program(self, configuration: str) -> Program:
        return Program(
            "mosquitto",
            (_binary(), "-c", configuration),
            lambda: mqtt.answers(self.socket),
            death_signal=signal.SIGTERM,  # it ends at once and saves its queue, which SIGKILL would lose
            cwd=self.folder,
        )

    def _mend(self) -> None:
        """After an end on a full disk: an empty file of the queue, or one that was cut off, is put aside, and the last
        that was saved while there was room takes its place. Without one the bridge's session is made as at first."""
        saved, last = self.folder / SAVED, self.folder / LAST
        if not saved.exists() or queue_file.is_whole(saved):
            return
        saved.replace(self.folder / f"{SAVED}.broken")
        found = queue_file.is_whole(last)
        if found:
            last.replace(saved)
        what = "the last queue that was saved before the disk was full" if found else "an empty queue"
        log.error("%s is incomplete: mosquitto starts with %s", saved, what, extra={"kept": f"{SAVED}.broken"})

    def _configure(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _private_folder(self.socket.parent)
        self.socket.unlink(missing_ok=True)
        common = Template(_TEMPLATE.read_text()).substitute(user=getpass.getuser())
        bridge = _BRIDGE.format(socket=_SOCKET if self.socket.is_relative_to(self.folder) else self.socket)
        devices = _TLS.format(port=self.tls_port) + self._revoked()
        if self.plain_port is not None:
            devices += _PLAIN.format(port=self.plain_port)
        self._write("mosquitto.conf", common + devices + bridge)
        self._write("bridge-only.conf", common + bridge)
        self._write("acl", _ACCESS)
        self._write_password()
        self._write_certificates()

    def _revoked(self) -> str:
        """The list of certificates that do not count any more. While two authorities are trusted there is none, since
        OpenSSL asks for a list of each."""
        if Authority.open(self.authority).certificate_pem.count(b"BEGIN CERTIFICATE") > 1:
            return ""
        return f"crlfile {os.path.relpath(revocation.ensure(self.authority), self.folder)}\n"

    def _make_bridge_session(self) -> None:
        """Before any device can connect: what is published before the first SUBSCRIBE has no queue to wait in."""
        broker = launch(self._program("bridge-only.conf"), self.folder / "first-start.log", 20)
        try:
            password = self.bridge_password_file.read_text()
            mqtt.make_session(self.socket, self.bridge_client, BRIDGE_USER, password, "d/#")
        finally:
            broker.stop()

    def _write_password(self) -> None:
        if not self.bridge_password_file.exists():
            self._write("bridge.password", secrets.token_urlsafe(32))
        hashed = _hash(self.bridge_password_file.read_text(), secrets.token_bytes(12))
        self._write("passwords", f"{BRIDGE_USER}:{hashed}\n")

    def _write_certificates(self) -> None:
        authority = Authority.open(self.authority)
        certificate, key = authority.issue_server(["localhost", ports.LOOPBACK])
        self._write("ca.crt", authority.certificate_pem.decode())
        self._write("server.crt", certificate.decode())
        self._write("server.key", key.decode())

    def _write(self, name: str, text: str) -> None:
        files.replace(self.folder / name, text.encode())


def _hash(password: str, salt: bytes) -> str:
    """A line of mosquitto's password file: PBKDF2 with SHA-512, as mosquitto_passwd writes it."""
    rounds = 101
    derived = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(derived).decode()}"


def _private_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ProgramError(f"{folder} belongs to another user: remove it or choose a shorter --data")
    folder.chmod(0o700)


def _binary() -> str:
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ProgramError("mosquitto is not installed: run `make setup`, or `apt-get install mosquitto`")
    return found
