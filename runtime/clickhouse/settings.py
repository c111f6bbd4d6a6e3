"""Where ClickHouse is. Imports no driver, so that settings can be read everywhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from runtime.errors import RefusedError
from runtime.settings import setting

_PORTS: Final = {"http": 8123, "https": 8443}


@dataclass(frozen=True)
class ClickHouseSettings:
    """Where ClickHouse is."""

    clickhouse_url: str = setting("http://default@127.0.0.1:8123/millrace", doc="http(s)://user@host:port/database")
    clickhouse_password_file: Path | None = setting(None, doc="file that holds the user's password", readable=True)
    clickhouse_timeout_s: float = setting(
        60.0, doc="time-out of one request, seconds; then it is retried", low=1, high=600
    )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A URL of ClickHouse's HTTP interface, with the defaults filled in."""

    secure: bool
    host: str
    port: int
    user: str
    password: str
    database: str

    @property
    def address(self) -> str:
        """host:port"""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoint(settings: ClickHouseSettings) -> Endpoint:
    """The server that `clickhouse_url` names. Raises RefusedError for a URL of another form."""
    try:
        url = urlsplit(settings.clickhouse_url)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    if url.scheme not in _PORTS or not url.hostname:
        raise RefusedError(f"MILLRACE_CLICKHOUSE_URL={settings.clickhouse_url!r}: expected http(s)://user@host:port/db")
    return Endpoint(
        secure=url.scheme == "https",
        host=url.hostname,
        port=port or _PORTS[url.scheme],
        user=unquote(url.username or "default"),
        password=unquote(url.password or ""),
        database=unquote(url.path.strip("/")) or "millrace",
    )
