"""What ClickHouse tells over HTTP: the ledger, its disks, its tables. Tables are the contract, not the sink's code."""

import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import orjson

from monitoring.watch import metrics
from monitoring.watch.settings import WatchSettings

_TIMEOUT_S: Final = 20.0
SECTIONS: Final = ("readings", "windows")
"""First words of the ledger's columns that count something else than messages."""

_DISKS: Final = (
    "SELECT name, free_space, total_space FROM system.disks WHERE total_space < 1e18"  # object stores say 1.8e19
)
_TABLES: Final = """SELECT table, sum(rows) AS rows, sum(bytes_on_disk) AS bytes, count() AS parts
FROM system.parts WHERE active AND database = currentDatabase() GROUP BY table"""


class ClickHouse:
    """Asks one server. Raises OSError while it does not answer, with its own words when it refuses."""

    def __init__(self, settings: WatchSettings) -> None:
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
        headers = {"X-ClickHouse-User": self._user}
        if self._password_file is not None:
            headers["X-ClickHouse-Key"] = self._password_file.read_text().strip()
        request = urllib.request.Request(self._address, query.encode(), headers)  # noqa: S310 (http or https, see above)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                return [orjson.loads(line) for line in answer.read().splitlines()]
        except urllib.error.HTTPError as error:
            raise OSError(error.read()[:300].decode(errors="replace")) from error

    def look(self) -> None:
        """Disks and tables."""
        for disk in self.rows(_DISKS):
            name = f"clickhouse/{disk['name']}"
            metrics.DISK_FREE.labels(name).set(int(disk["free_space"]))
            metrics.DISK_SIZE.labels(name).set(int(disk["total_space"]))
        for table in self.rows(_TABLES):
            metrics.TABLE_ROWS.labels(table["table"]).set(int(table["rows"]))
            metrics.TABLE_BYTES.labels(table["table"]).set(int(table["bytes"]))
            metrics.TABLE_PARTS.labels(table["table"]).set(int(table["parts"]))

    def look_at_ledger(self) -> None:
        """The ledger's totals. Its alert waits: a server under load may show a row and not yet the one before it."""
        (totals,) = self.rows("SELECT * FROM ledger")
        for column, number in totals.items():
            of, count = section(column)
            metrics.LEDGER.labels(of, count).set(int(number))


def section(column: str) -> tuple[str, str]:
    """What a column of the ledger counts: (`messages`, `in_flight`), (`readings`, `difference`) …"""
    first, _, rest = column.partition("_")
    return (first, rest) if first in SECTIONS and rest else ("messages", column)
