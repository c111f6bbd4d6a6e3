"""Gauges from ClickHouse: its disks and parts, the ledger, current devices and incidents."""

from typing import Any, Final

from monitoring.watch import metrics
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings, endpoint
from schemas.vocabulary import Presence, Severity

SECTIONS: Final = ("readings", "windows")
"""First words of the ledger's columns that count something else than messages."""

_TIMEOUT_S: Final = 20.0
_DISKS: Final = "SELECT name, free_space, total_space FROM system.disks WHERE total_space < 1e18"
"""Object stores say 1.8e19."""
_PARTS: Final = """SELECT table, sum(p.rows) AS rows, sum(p.bytes) AS bytes, sum(p.parts) AS parts, max(p.parts) AS most
FROM (
    SELECT table, sum(rows) AS rows, sum(bytes_on_disk) AS bytes, count() AS parts FROM system.parts
    WHERE active AND database IN (currentDatabase(), currentDatabase() || '_local')
    GROUP BY database, table, partition_id
) AS p GROUP BY table"""
_DEVICES: Final = "SELECT state, count() AS devices FROM presence_current GROUP BY state"
_INCIDENTS: Final = (
    "SELECT severity, count() AS incidents FROM incidents_current WHERE state = 'open' GROUP BY severity"
)


class Tables:
    """Each look raises RetryableError while ClickHouse does not answer, FatalError when it refuses."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        endpoint(settings)  # a URL of another form ends the start, not each look
        self._settings = settings

    def _records(self, *queries: str) -> list[list[dict[str, Any]]]:
        """The rows of each query. A connection each time: the password may have changed since the last look."""
        with ClickHouse(self._settings, timeout_s=_TIMEOUT_S) as db:
            return [db.records(query) for query in queries]

    def look_at_server(self) -> None:
        """Disks and parts of tables."""
        disks, tables = self._records(_DISKS, _PARTS)
        for disk in disks:
            name = f"clickhouse/{disk['name']}"
            metrics.DISK_FREE.labels(name).set(int(disk["free_space"]))
            metrics.DISK_SIZE.labels(name).set(int(disk["total_space"]))
        for table in tables:
            metrics.TABLE_ROWS.labels(table["table"]).set(int(table["rows"]))
            metrics.TABLE_BYTES.labels(table["table"]).set(int(table["bytes"]))
            metrics.TABLE_PARTS.labels(table["table"]).set(int(table["parts"]))
            metrics.PARTITION_PARTS.labels(table["table"]).set(int(table["most"]))

    def look_at_ledger(self) -> None:
        """The ledger's totals. Its alert waits: a server under load may show a row and not yet the one before it."""
        ((totals,),) = self._records("SELECT * FROM ledger")
        for column, number in totals.items():
            of, count = section(column)
            metrics.LEDGER.labels(of, count).set(int(number))

    def look_at_fleet(self) -> None:
        """Devices by presence, open incidents by severity."""
        states, severities = self._records(_DEVICES, _INCIDENTS)
        devices = {row["state"]: int(row["devices"]) for row in states}
        for state in Presence:
            metrics.DEVICES.labels(state).set(devices.get(state, 0))
        incidents = {int(row["severity"]): int(row["incidents"]) for row in severities}
        for severity in Severity:
            metrics.INCIDENTS.labels(severity.name.lower()).set(incidents.get(severity, 0))


def section(column: str) -> tuple[str, str]:
    """What a column of the ledger counts: (`messages`, `in_flight`), (`readings`, `difference`) …"""
    first, _, rest = column.partition("_")
    return (first, rest) if first in SECTIONS and rest else ("messages", column)
