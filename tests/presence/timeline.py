"""One partition on a timeline in seconds: events in, output rows out."""

from typing import Any

from schemas.control import Device
from streams.presence.core.stage import PresenceStage
from streams.presence.core.state import SETTINGS
from streams.presence.rules import check
from tests.presence.support import NOW_MS, control, data, event, registered, row, rows_of, tick


class Timeline:
    """`at(s)` lets time pass, a tick a second, `says` and `happens` send events; all return the rows since, as
    (device, state, reason)."""

    def __init__(self, rules: str = "") -> None:
        self.state = PresenceStage().create(0)
        self.offset = self.second = 0
        self.rows: list[dict[str, Any]] = []
        self._apply(tick(0, NOW_MS))
        if rules:
            self._apply(control(self._next(), SETTINGS, check(rules, "test").encode()))

    def at(self, second: int, every: int = 1) -> list[tuple[str, str, str]]:
        """Let time pass until then."""
        found = []
        while self.second < second:
            self.second = min(second, self.second + every)
            found += self._apply(tick(self._next(), NOW_MS + 1000 * self.second))
        return found

    def says(self, *devices: str, **more: Any) -> list[tuple[str, str, str]]:
        """These send a reading, in one record."""
        return self._apply(data(self._next(), [row(device, self.now_ms, **more) for device in devices]))

    def happens(self, device: str, *events: str) -> list[tuple[str, str, str]]:
        """`connected`, `disconnected`, `event/offline`, in one record."""
        return self._apply(data(self._next(), [event(device, name, self.now_ms) for name in events]))

    def record(self, *rows: dict[str, Any]) -> list[tuple[str, str, str]]:
        return self._apply(data(self._next(), list(rows)))

    def registers(self, device: Device) -> list[tuple[str, str, str]]:
        return self._apply(registered(self._next(), device))

    def regularly(self, device: str, every: int, times: int) -> list[tuple[str, str, str]]:
        """It sends, so often, from now on; the last message is now, then."""
        found = self.says(device)
        for _ in range(times):
            found += self.at(self.second + every)
            found += self.says(device)
        return found

    @property
    def now_ms(self) -> int:
        return NOW_MS + 1000 * self.second

    @property
    def last(self) -> dict[str, Any]:
        """The row written last."""
        return self.rows[-1]

    def _next(self) -> int:
        self.offset += 1
        return self.offset

    def _apply(self, record: Any) -> list[tuple[str, str, str]]:
        found = rows_of(self.state.apply(record))
        self.rows += found
        return [(one["device"], one["state"], one["reason"]) for one in found]
