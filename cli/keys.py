"""`millrace keys`: what the containers of docker-compose.yml need at the first start, in a folder for each reader."""

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from identity.authority import Authority

UID: Final = {"mosquitto": 1883, "bridge": 10001, "http": 10001, "clickhouse": 101, "sink": 10001, "authority": 10001}
"""Who reads each folder: the users of the public images and of ours."""

SERVER_NAMES: Final = ("mosquitto", "bridge-http", "localhost", "127.0.0.1")
BRIDGE_CN: Final = "millrace.bridge.0"
"""With dots, which no device id has: no device can be enrolled as the bridge."""

USERS_XML: Final = """<clickhouse>
  <users>
    <default remove="remove"/>
    <millrace>
      <password_sha256_hex>{password}</password_sha256_hex>
      <networks><ip>::/0</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
    </millrace>
  </users>
</clickhouse>
"""


def _write(file: Path, data: bytes, uid: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
    if os.geteuid() == 0:
        os.chown(file, uid, uid)


def _password() -> tuple[bytes, bytes]:
    """The sink's password and the server's file of users that knows its hash."""
    password = secrets.token_urlsafe(32).encode()
    return password, USERS_XML.format(password=hashlib.sha256(password).hexdigest()).encode()


def make(folder: Path, server_names: tuple[str, ...]) -> list[str]:
    """Write what is missing below `folder`; what is there stays. Returns the names of the files written.

    Files that belong together are made together: half of a pair is made anew with the other half.
    """
    for name, uid in UID.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(folder / name, uid, uid)
    authority = Authority.open(folder / "authority")
    pairs: list[tuple[tuple[str, ...], Callable[[], tuple[bytes, ...]]]] = [
        (("mosquitto/server.crt", "mosquitto/server.key"), lambda: authority.issue_server(server_names)),
        (("http/server.crt", "http/server.key"), lambda: authority.issue_server(server_names)),
        (("bridge/client.crt", "bridge/client.key"), lambda: authority.issue_client(BRIDGE_CN)),
        (("sink/password", "clickhouse/millrace.xml"), _password),
        *(((f"{who}/ca.crt",), lambda: (authority.certificate_pem,)) for who in ("mosquitto", "bridge", "http")),
    ]
    written = []
    for names, maker in pairs:
        if all((folder / name).exists() for name in names):
            continue
        for name, data in zip(names, maker(), strict=True):
            (folder / name).unlink(missing_ok=True)
            _write(folder / name, data, UID[name.split("/")[0]])
            written.append(name)
    return written


@click.command()
@click.option("--dir", "folder", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--name", "names", multiple=True, help="A further host name or address for the server certificates.")
def keys(folder: Path, names: tuple[str, ...]) -> None:
    """Make certificates and passwords that are not there yet.

    Example: millrace keys --dir /keys --name iot.example.com
    """
    for name in make(folder, SERVER_NAMES + names):
        click.echo(f"made {name}")
