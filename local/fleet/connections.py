"""Every device's connection, MQTT or HTTP, behind one `send`; the limits of the machine; waiting until all is done."""

import asyncio
import resource
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from local.fleet.http import Sender
from local.fleet.mqtt import Device, Endpoint, Shared
from local.fleet.publication import Publication
from local.fleet.totals import Totals
from local.programs import allow_files
from runtime.errors import MillraceError, RetryableError
from runtime.tasks import cancel

CONNECTING: Final = 64
"""Connections that are being opened at once."""
SILENCE_S: Final = 120.0
"""So long nothing may move while messages wait; then something is wrong that waiting does not cure."""
_SPARE_FILES: Final = 256
_TICK_S: Final = 1.0


class FleetError(MillraceError):
    """The fleet could not do what it was asked to."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where devices connect. `tls` by device id, empty for a listener without TLS."""

    mqtt_url: str
    tls: Mapping[str, ssl.SSLContext]
    http_url: str = ""
    http_tls: ssl.SSLContext | None = None

    def endpoint(self, device: str) -> Endpoint:
        parts = urlsplit(self.mqtt_url)
        return Endpoint(parts.hostname or "", parts.port or 1883, self.tls.get(device))


class Connections:
    """Devices that are connected. `async with`; devices named in `tokens` use HTTP, the others MQTT.

    `acknowledged` devices listen for end-to-end acknowledgements.
    """

    def __init__(
        self, endpoints: Endpoints, ids: Sequence[str], tokens: Mapping[str, str], acknowledged: frozenset[str]
    ) -> None:
        self.totals = Totals()
        shared = Shared(self.totals, asyncio.Semaphore(CONNECTING))
        self._mqtt = {
            name: Device(name, endpoints.endpoint(name), shared, name in acknowledged)
            for name in ids
            if name not in tokens
        }
        self._http = Sender(endpoints.http_url, tokens, self.totals, endpoints.http_tls)
        self._ticker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Connections":
        allow_connections(len(self._mqtt) + _SPARE_FILES)
        for device in self._mqtt.values():
            device.start()
        self._ticker = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        await cancel(self._ticker)
        await asyncio.gather(*(device.close() for device in self._mqtt.values()))
        await self._http.close()

    async def connected(self, on_progress: Callable[[int], None] = lambda _: None) -> None:
        """Wait until every device has its connection. Raises RetryableError when nothing moves any more."""
        await self._until(lambda: self.totals.connected >= len(self._mqtt), lambda: self.totals.connects, on_progress)

    async def done(self, on_progress: Callable[[int], None] = lambda _: None, left: int = 0) -> None:
        """Wait until at most `left` messages are not acknowledged. Raises RetryableError when nothing moves."""
        await self._until(lambda: self.totals.open <= left, self._moved, on_progress)

    def _moved(self) -> int:
        return self.totals.acknowledged - self.totals.unconfirmed

    async def _until(
        self, true: Callable[[], bool], moved: Callable[[], int], on_progress: Callable[[int], None]
    ) -> None:
        last, since = moved(), time.monotonic()
        while not true():
            await asyncio.sleep(0.05)
            self._http.check()
            if moved() != last:
                last, since = moved(), time.monotonic()
                on_progress(last)
            if time.monotonic() - since > SILENCE_S:
                raise RetryableError(
                    f"no progress for {SILENCE_S:.0f} s: {self.totals.connected} of {len(self._mqtt)} connected,"
                    f" {self.totals.open} messages open; last error: {self.totals.error or 'none'}"
                )

    def send(self, device: str, publications: Sequence[Publication]) -> None:
        found = self._mqtt.get(device)
        if found is not None:
            found.send(publications)
        else:
            self._http.send(device, publications)

    def restart(self, device: str) -> None:
        """Reboot a device: it hangs up when its messages are acknowledged, and connects again."""
        if device in self._mqtt:
            self._mqtt[device].restart()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            for device in self._mqtt.values():
                device.tick(now)


def allow_connections(count: int) -> None:
    """Raise this process's limit of open files. Raises FleetError when the machine does not allow so many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and count > hard:
        raise FleetError(f"{count} connections need as many open files; this machine allows {hard} (ulimit -Hn)")
    allow_files(count)
