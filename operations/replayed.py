"""What ClickHouse holds of a replayed run: the answer that local.fleet.replay asks for."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from local.fleet.replay import CHANNEL, METRIC, Rows
from runtime.clickhouse.client import ClickHouse

_COUNTS: Final = """
SELECT device, count() FROM readings
WHERE device IN {devices:Array(String)} AND channel = {channel:String} AND metric = {metric:String}
    AND boot = {boot:Int64}
GROUP BY device"""
_ROWS: Final = """
SELECT toUnixTimestamp64Milli(time), value FROM readings
WHERE device IN {devices:Array(String)} AND channel = {channel:String} AND metric = {metric:String}
    AND boot = {boot:Int64}"""


class Stored:
    """Rows of these devices."""

    def __init__(self, db: ClickHouse, devices: Sequence[str]) -> None:
        self._db, self._devices = db, list(devices)

    def counts(self, boot: int) -> dict[str, int]:
        return {str(device): int(count) for device, count in self._ask(_COUNTS, self._devices, boot)}

    def rows(self, device: str, boot: int) -> Rows:
        return Counter((int(time_ms), float(value)) for time_ms, value in self._ask(_ROWS, [device], boot))

    def _ask(self, query: str, devices: Sequence[str], boot: int) -> list[tuple[Any, ...]]:
        return self._db.rows(query, {"devices": devices, "channel": CHANNEL, "metric": METRIC, "boot": boot})
