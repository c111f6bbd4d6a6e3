"""Whether Kafka and ClickHouse can be reached, asked by TCP before a command begins: an answer within seconds."""

import socket
from pathlib import Path
from typing import Final

from cli.target import KAFKA, Target, is_platform
from local import status
from runtime.addresses import Address
from runtime.clickhouse.settings import ClickHouseSettings, endpoint
from runtime.errors import RefusedError, RetryableError
from runtime.settings import SettingsError

TIMEOUT_S: Final = 3.0


def kafka_servers(text: str) -> list[Address]:
    """The brokers of MILLRACE_KAFKA_BOOTSTRAP. Raises SettingsError."""
    parts = [part.strip().rpartition("://")[2] for part in text.split(",") if part.strip()]
    try:
        found = [Address(part if ":" in part else f"{part}:9092") for part in parts]
    except ValueError as error:
        raise SettingsError([f"{KAFKA}={text!r}: {error}"]) from None
    if not found:
        raise SettingsError([f"{KAFKA}={text!r}: expected host:port of one or more brokers, comma-separated"])
    return found


def clickhouse_server(found: ClickHouseSettings) -> Address:
    """The server of MILLRACE_CLICKHOUSE_URL. Raises SettingsError."""
    try:
        server = endpoint(found)
        return Address.at(server.host, server.port)
    except (RefusedError, ValueError) as error:
        raise SettingsError([str(error)]) from None


def check(target: Target, what: str, setting: str, servers: list[Address], timeout_s: float = TIMEOUT_S) -> None:
    """Raises RetryableError when none of the servers accepts a connection."""
    failures = []
    for server in servers:
        try:
            socket.create_connection((server.host, server.port), timeout_s).close()
            return
        except (OSError, UnicodeError) as error:
            failures.append(f"{server}: {getattr(error, 'strerror', None) or error}")
    raise RetryableError(
        f"{what} cannot be reached at {'; '.join(failures)} ({setting} of {target.origin}). {_advice(target.folder)}"
    )


def _advice(folder: Path) -> str:
    if not is_platform(folder):
        return "Does it run, and is the address right?"
    if status.is_running(folder):
        return f"`millrace status --data {folder}` shows its state"
    return f"That platform is stopped: `millrace up --data {folder} --detach` starts it"
