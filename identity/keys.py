"""Keys, certificates and passwords of a deployment, in a folder for each service that reads them."""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from cryptography import x509

from identity import rollover
from identity.authority import Authority
from identity.clickhouse_users import USERS, document
from runtime.kafka.rights import RIGHTS, SUPER, principal

_OURS: Final = 10001
UID: Final = {"mosquitto": 1883, "clickhouse": 101, "kafka": 1000, "grafana": 472}
"""Users of the public images, by the folder that they read; every other folder is for ours."""

SERVER_NAMES: Final = ("mosquitto", "mosquitto-2", "bridge-http", "localhost", "127.0.0.1")
KAFKA_NAMES: Final = ("kafka", "kafka-1", "kafka-2", "kafka-3", "localhost")
BRIDGE_CN: Final = "millrace.bridge.0"
WATCH_CN: Final = "millrace.watch.0"
"""With dots, which no device id has: no device can be enrolled as the bridge or the watch."""

_ALL_DAYS: Final = 1_000_000
"""Every certificate expires sooner."""

_KAFKA_PROPERTIES: Final = b"""# Kafka by mutual TLS; the certificate's CN says who this service is
security.protocol=ssl
ssl.ca.location=/keys/kafka-ca.crt
ssl.certificate.location=/keys/kafka.crt
ssl.key.location=/keys/kafka.key
"""

Made = tuple[tuple[str, ...], Callable[[], tuple[bytes, ...]]]
"""Names of files that belong together, and what writes them."""


def change_authorities(folder: Path, server_names: tuple[str, ...], step: str) -> list[str]:
    """A step of identity/rollover.py for both authorities; then every certificate is issued again.
    Returns the names of the files written. Raises RefusedError."""
    for name in ("authority", "services"):
        Authority.open(_room(folder, name))
        rollover.step(step, folder / name)
    return make(folder, server_names, _ALL_DAYS)


def make(folder: Path, server_names: tuple[str, ...], renew_days: int | None = None) -> list[str]:
    """Write what is missing below `folder`; what is there stays, but for certificates that end within `renew_days`.
    Returns the names of the files written.

    Files that belong together are written together: half of a pair is replaced with the other half. Authorities are
    never replaced: whoever trusts one trusts what it issues next.
    """
    devices, services = (Authority.open(_room(folder, name)) for name in ("authority", "services"))
    _hand_over(folder / "authority")
    written = []
    for names, maker in (*_devices(devices, server_names), *_services(services), *_clickhouse()):
        if all((folder / name).exists() for name in names) and not _ends(folder / names[0], renew_days):
            continue
        for name, data in zip(names, maker(), strict=True):
            _write(_room(folder, name.split("/")[0]) / name.split("/")[1], data)
            written.append(name)
    return written


def _ends(file: Path, within_days: int | None) -> bool:
    """Whether the file holds a certificate of ours that ends so soon. Authorities' own do not count."""
    data = file.read_bytes()
    if within_days is None or b"BEGIN CERTIFICATE" not in data:
        return False
    first = x509.load_pem_x509_certificates(data)[0]
    if within_days == _ALL_DAYS:
        return True  # authorities' own as well: who is trusted has changed
    return first.issuer != first.subject and first.not_valid_after_utc < datetime.now(UTC) + timedelta(within_days)


def _devices(authority: Authority, server_names: tuple[str, ...]) -> Iterator[Made]:
    """What devices meet: the broker's and the HTTP bridge's certificates; and what opens the broker to ours."""
    for who in ("mosquitto", "bridge-http"):
        yield (f"{who}/server.crt", f"{who}/server.key"), lambda: authority.issue_server(server_names)
    for who, cn in (("bridge", BRIDGE_CN), ("watch", WATCH_CN)):
        yield (f"{who}/client.crt", f"{who}/client.key"), partial(authority.issue_client, cn)
    for who in ("mosquitto", "bridge", "bridge-http", "watch"):
        yield (f"{who}/ca.crt",), lambda: (authority.certificate_pem,)


def _services(authority: Authority) -> Iterator[Made]:
    """Kafka's and its clients' certificates, by an authority of their own: no device's certificate opens Kafka."""

    def node() -> tuple[bytes, ...]:
        certificate, key = authority.issue_node(principal("kafka"), KAFKA_NAMES)
        return (key + certificate, authority.certificate_pem)

    yield ("kafka/node.pem", "kafka/ca.pem"), node
    for who in (*RIGHTS, *(name for name in SUPER if name != "kafka")):
        yield (f"{who}/kafka.crt", f"{who}/kafka.key"), partial(authority.issue_client, principal(who))
        yield (f"{who}/kafka-ca.crt",), lambda: (authority.certificate_pem,)
        yield (f"{who}/kafka.properties",), lambda: (_KAFKA_PROPERTIES,)


def _clickhouse() -> Iterator[Made]:
    """A password for each user, in the folder of whoever uses it, with the server's file that knows its hash; and one
    for Grafana's administrator."""
    yield ("grafana/admin.password",), lambda: (secrets.token_urlsafe(24).encode(),)
    for user in USERS:

        def pair(name: str = user.name) -> tuple[bytes, bytes]:
            password = secrets.token_urlsafe(32).encode()
            return password, document(name, hashlib.sha256(password).hexdigest()).encode()

        yield (f"{user.room}/{user.name}.password", f"clickhouse/{user.name}.xml"), pair


def _room(folder: Path, name: str) -> Path:
    room = folder / name
    room.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(room, _uid(name), _uid(name))
    return room


def _hand_over(room: Path) -> None:
    """An authority's files to the user of its room: operators make devices' certificates with it."""
    if os.geteuid() == 0:
        for file in room.iterdir():
            os.chown(file, _uid(room.name), _uid(room.name))


def _uid(room: str) -> int:
    return UID.get(room, _OURS)


def _write(file: Path, data: bytes) -> None:
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
    if os.geteuid() == 0:
        os.chown(file, _uid(file.parent.name), _uid(file.parent.name))
