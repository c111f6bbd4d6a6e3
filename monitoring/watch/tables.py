"""What ClickHouse's tables tell: its disks and parts, the ledger, devices and incidents as they stand."""

from typing import Final

from monitoring.clickhouse import ClickHouse
from monitoring.watch import metrics
from schemas.vocabulary import Presence, Severity

SECTIONS: Final = ("readings", "windows")
"""First words of the ledger's columns that count something else than messages."""

_DISKS: Final = "SELECT name, free_space, total_space FROM system.disks WHERE total_space < 1e18"
"""Object stores say 1.8e19."""
_PARTS: Final = """SELECT table, sum(rows) AS rows, sum(bytes_on_disk) AS bytes, count() AS parts
FROM system.parts WHERE active AND database IN (currentDatabase(), currentDatabase() || '_local') GROUP BY table"""
_DEVICES: Final = "SELECT state, count() AS devices FROM presence_current GROUP BY state"
_INCIDENTS: Final = (
    "SELECT severity, count() AS incidents FROM incidents_current WHERE state = 'open' GROUP BY severity"
)


class Tables:
    """Looks by one connection's settings. Each raises OSError while ClickHouse does not answer."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    def look_at_server(self) -> None:
        """Disks and parts of tables."""
        for disk in self._clickhouse.rows(_DISKS):
            name = f"clickhouse/{disk['name']}"
            metrics.DISK_FREE.labels(name).set(int(disk["free_space"]))
            metrics.DISK_SIZE.labels(name).set(int(disk["total_space"]))
        for table in self._clickhouse.rows(_PARTS):
            metrics.TABLE_ROWS.labels(table["table"]).set(int(table["rows"]))
            metrics.TABLE_BYTES.labels(table["table"]).set(int(table["bytes"]))
            metrics.TABLE_PARTS.labels(table["table"]).set(int(table["parts"]))

    def look_at_ledger(self) -> None:
        """The ledger's totals. Its alert waits: a server under load may show a row and not yet the one before it."""
        (totals,) = self._clickhouse.rows("SELECT * FROM ledger")
        for column, number in totals.items():
            of, count = section(column)
            metrics.LEDGER.labels(of, count).set(int(number))

    def look_at_fleet(self) -> None:
        """Devices by presence, open incidents by severity."""
        devices = {row["state"]: int(row["devices"]) for row in self._clickhouse.rows(_DEVICES)}
        for state in Presence:
            metrics.DEVICES.labels(state).set(devices.get(state, 0))
        incidents = {int(row["severity"]): int(row["incidents"]) for row in self._clickhouse.rows(_INCIDENTS)}
        for severity in Severity:
            metrics.INCIDENTS.labels(severity.name.lower()).set(incidents.get(severity, 0))


def section(column: str) -> tuple[str, str]:
    """What a column of the ledger counts: (`messages`, `in_flight`), (`readings`, `difference`) …"""
    first, _, rest = column.partition("_")
    return (first, rest) if first in SECTIONS and rest else ("messages", column)
