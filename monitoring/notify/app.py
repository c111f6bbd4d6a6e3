"""Polls incidents, posts alerts to Alertmanager and remembers what it accepted, in a thread of its own."""

import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from monitoring.notify import metrics
from monitoring.notify.core import QUERY, AlertOptions, Sent, begin, plan_alerts, read
from monitoring.notify.settings import NotifySettings
from runtime import lifecycle
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import endpoint
from runtime.errors import MillraceError, RefusedError
from runtime.probes import Probes
from schemas.vocabulary import Severity

log = logging.getLogger(__name__)

_TIMEOUT_S: Final = 10.0
"""Of one read or write of a socket; a server that answers byte by byte can hold a request for longer."""
HANG_S: Final = 60.0
"""Without progress for so long, beyond the time between two polls, it is not live."""
_POST_ALERTS: Final = 500
_KEEP_POLLS: Final = 12
"""An alert that is not sent for so many polls expires: a minute at the default interval."""


class Memory:
    """The file that remembers what was sent; replaced atomically."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def load(self) -> dict[str, Sent] | None:
        """None if there is no such file yet. Raises RefusedError if it cannot be parsed."""
        if not self._file.exists():
            return None
        try:
            return {name: Sent(*times) for name, times in orjson.loads(self._file.read_bytes()).items()}
        except (orjson.JSONDecodeError, TypeError, AttributeError) as error:
            raise RefusedError(
                f"{self._file} cannot be read ({error}): remove it; incidents that are closed by now will not be sent"
            ) from error

    def store(self, sent: dict[str, Sent]) -> None:
        new = self._file.with_suffix(".new")
        new.write_bytes(orjson.dumps({name: (one.first_ms, one.until_ms, one.closed_ms) for name, one in sent.items()}))
        new.replace(self._file)


class Notifier:
    """Part of the service. `beat` is called in the thread that works, after each poll and each request: a dependency
    that is away is no reason to call the notifier hung."""

    def __init__(self, settings: NotifySettings, beat: Callable[[], None] = lambda: None) -> None:
        endpoint(settings)  # a URL of another form ends the start, not each look
        self._settings = settings
        self._beat = beat
        self._memory = Memory(settings.notify_state)
        self._sent = self._memory.load()
        self._options = AlertOptions(
            hold_ms=round(settings.notify_hold_s * 1000),
            keep_ms=round(settings.notify_every_s * _KEEP_POLLS * 1000),
            link=settings.notify_link,
            least=Severity[settings.notify_least.upper()],
        )
        self._stop = threading.Event()
        self._wrong: str | None = "has not polled yet"

    async def start(self) -> None:
        threading.Thread(target=self._run, name="notify", daemon=True).start()

    async def stop(self) -> None:
        self._stop.set()

    def wrong(self) -> str | None:
        """For readiness."""
        return self._wrong

    def _run(self) -> None:
        self._beat()
        while not self._stop.is_set():
            try:
                self.once(round(time.time() * 1000))
            except Exception as error:
                lifecycle.die(error, "notify")
            self._beat()
            self._stop.wait(self._settings.notify_every_s)

    def once(self, now_ms: int) -> bool:
        """Poll and post once. False: ClickHouse or Alertmanager is unreachable; the next poll tries again."""
        try:
            with ClickHouse(self._settings, timeout_s=_TIMEOUT_S) as db:
                found = read(db.records(QUERY))
        except MillraceError as error:
            return self._failed("clickhouse", error)
        sent = begin(found, now_ms) if self._sent is None else self._sent
        alerts, new = plan_alerts(found, sent, now_ms, self._options)
        try:
            self._post(alerts)
        except OSError as error:
            return self._failed("alertmanager", error)
        if new != self._sent:
            self._memory.store(new)
            self._sent = new
        if self._wrong:
            log.info("incidents are sent", extra={"alerts": len(alerts)})
        self._wrong = None
        metrics.INCIDENTS.set(len(alerts))
        metrics.TOLD_AT.set_to_current_time()
        return True

    def _post(self, alerts: Sequence[dict[str, Any]]) -> None:
        address = self._settings.alertmanager_url.rstrip("/") + "/api/v2/alerts"
        # without alerts an empty post: it shows that Alertmanager is up
        for at in range(0, max(1, len(alerts)), _POST_ALERTS):
            self._beat()
            part = alerts[at : at + _POST_ALERTS]
            request = urllib.request.Request(  # noqa: S310 (an address from our settings)
                address, orjson.dumps(part), {"Content-Type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310
                    pass
            except urllib.error.HTTPError as error:
                raise OSError(f"{error.code}: {error.read()[:300].decode(errors='replace')}") from error

    def _failed(self, at: str, error: Exception) -> bool:
        metrics.FAILURES.labels(at).inc()
        if not self._wrong:
            log.warning("incidents cannot be sent", extra={"at": at, "error": str(error)})
        self._wrong = f"{at}: {error}"
        return False


async def serve(settings: NotifySettings) -> None:
    """Run until SIGTERM."""
    probes = Probes(settings.http_bind)
    notifier = Notifier(settings, probes.worker("notify", settings.notify_every_s + HANG_S))
    probes.checks["incidents"] = notifier.wrong
    await lifecycle.run([notifier], probes)
