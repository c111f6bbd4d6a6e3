"""Who is there: the newest change of each device, as ClickHouse holds it."""

from dataclasses import dataclass
from typing import Any, Final

from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings

_LIST: Final = """
SELECT device, state, reason, since, last_seen, expected_s, flaps, publisher, time FROM presence_current
WHERE ({state:String} = '' OR state = {state:String}) AND startsWith(device, {prefix:String})
ORDER BY since DESC, device LIMIT {limit:UInt32}"""
_TOTALS: Final = "SELECT state, count() FROM presence_current GROUP BY state"


@dataclass(frozen=True, slots=True)
class PresenceList:
    """`rows`: columns of presence_current, those that came or went last first; `totals`: all devices, by state."""

    rows: list[dict[str, Any]]
    totals: dict[str, int]


def presence(clickhouse: ClickHouseSettings, state: str = "", prefix: str = "", limit: int = 100) -> PresenceList:
    """Devices in a state (any where it is empty) whose ids begin with `prefix`. Raises RetryableError."""
    with ClickHouse(clickhouse) as db:
        rows = db.records(_LIST, {"state": state, "prefix": prefix, "limit": limit})
        totals = {str(name): int(count) for name, count in db.rows(_TOTALS)}
    return PresenceList(rows, totals)
