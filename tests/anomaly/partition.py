"""A partition for tests: feed records, read what was written."""

from typing import Any

from runtime.stage.contract import Record
from schemas.control import Device, Mark
from schemas.topics import ANOMALIES, INCIDENTS
from streams.anomaly.core.stage import AnomalyStage
from tests.anomaly import support
from tests.anomaly.support import NOW_MS, rows_of


class Partition:
    """`now_ms` is stream time and the time of what is said next."""

    def __init__(self, settings: str = "", partition: int = 0) -> None:
        self.state = AnomalyStage().create(partition)
        self.offset, self.now_ms = 0, NOW_MS
        self.anomalies: list[dict[str, Any]] = []
        self.incidents: list[dict[str, Any]] = []
        self.tick()
        if settings:
            self.settings(settings)

    def take(self, record: Record) -> None:
        outputs = self.state.apply(record)
        self.anomalies += rows_of(outputs, ANOMALIES)
        self.incidents += rows_of(outputs, INCIDENTS)
        self.offset += 1

    def say(self, *rows: dict[str, Any] | float) -> None:
        """Readings in one record; a number is one of d-1's temperature."""
        full = [row if isinstance(row, dict) else {"value": row} for row in rows]
        self.take(support.data(self.offset, [{"time": self.now_ms} | row for row in full]))

    def tick(self, passed_s: float = 0) -> None:
        self.now_ms += int(1000 * passed_s)
        self.take(support.tick(self.offset, self.now_ms))

    def settings(self, text: str) -> None:
        self.take(support.settings(self.offset, text))

    def register(self, device: str, role: str = "motor", state: Any = "active", **labels: str) -> None:
        self.take(support.registered(self.offset, Device(device, role, state, labels=labels)))

    def mark(self, row: dict[str, Any], said: Any) -> None:
        about = (row["scope"], row["device"], row["channel"], row["metric"], row["detector"])
        self.take(support.marked(self.offset, Mark(row["incident"], said, row["publisher"], self.now_ms, *about)))

    def states(self) -> list[str]:
        return [row["state"] for row in self.incidents]

    def opened(self) -> list[dict[str, Any]]:
        return [row for row in self.incidents if row["state"] == "opened"]

    def closed(self) -> list[dict[str, Any]]:
        return [row for row in self.incidents if row["state"] == "closed"]
