"""Until when certificates are valid: those that servers present, and files."""

import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from runtime.addresses import Address
from runtime.certificates import show, show_file

_TIMEOUT_S: Final = 5.0


def look(servers: Sequence[Address], files: Sequence[Path]) -> None:
    """Raises OSError when one cannot be checked; the others are checked all the same."""
    wrong: list[str] = []
    for server in servers:
        try:
            show(str(server), presented(server))
        except (OSError, ValueError) as error:
            wrong.append(f"{server}: {error}")
    for file in files:
        try:
            show_file(file)
        except (OSError, ValueError) as error:
            wrong.append(f"{file}: {error}")
    if wrong:
        raise OSError("; ".join(wrong))


def presented(server: Address) -> bytes:
    """The certificate (PEM) that a server presents. It is looked at, not trusted: nothing is sent to the server.

    By TLS 1.3 a server that wants ours presents its own all the same.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((server.host, server.port), _TIMEOUT_S) as connection,
        context.wrap_socket(connection, server_hostname=server.host) as tls,
    ):
        found = tls.getpeercert(binary_form=True)
    if found is None:
        raise ValueError("it presents no certificate")
    return ssl.DER_cert_to_PEM_cert(found).encode()
