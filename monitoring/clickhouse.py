"""Questions to ClickHouse over HTTP, without a driver: tables are the contract between services."""

import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import orjson

from runtime.settings import setting

_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True)
class ClickHouseSettings:
    """Where ClickHouse is."""

    clickhouse_url: str = setting("http://default@127.0.0.1:8123/millrace", doc="http(s)://user@host:port/database")
    clickhouse_password_file: Path | None = setting(None, doc="file that holds the user's password", readable=True)


class ClickHouse:
    """Asks one server. Raises OSError while it does not answer, with its own words when it refuses."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        url = urlsplit(settings.clickhouse_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(
                f"MILLRACE_CLICKHOUSE_URL={settings.clickhouse_url!r}: expected http(s)://user@host:port/db"
            )
        port = url.port or (8443 if url.scheme == "https" else 8123)
        database = url.path.strip("/") or "millrace"
        self._address = f"{url.scheme}://{url.hostname}:{port}/?database={quote(database)}&default_format=JSONEachRow"
        self._user = unquote(url.username or "default")
        self._password_file = settings.clickhouse_password_file

    def rows(self, query: str) -> list[dict[str, Any]]:
        """The answer, a dictionary a row; 64 bit integers may come as text. Nothing for statements without one."""
        headers = {"X-ClickHouse-User": self._user}
        if self._password_file is not None:  # read anew each time: it may have been changed
            headers["X-ClickHouse-Key"] = self._password_file.read_text().strip()
        request = urllib.request.Request(self._address, query.encode(), headers)  # noqa: S310 (http or https, see above)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                return [orjson.loads(line) for line in answer.read().splitlines()]
        except urllib.error.HTTPError as error:
            raise OSError(error.read()[:300].decode(errors="replace")) from error
