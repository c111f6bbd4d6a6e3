"""/metrics, /health/live and /health/ready of a service, served from a thread of its own.

A thread, so that a service that hangs is seen to hang: `live` is false when the event loop has not called `beat`, or a
worker its own (`worker`), for too long. `ready` asks the service's own checks. /metrics says the same in gauges, so
that an alert names the check.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
from prometheus_client import REGISTRY, CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from runtime.addresses import Listen

log = logging.getLogger(__name__)

DELAY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Buckets, seconds, for every histogram of a delay or duration: fine around the 1 s and 2 s that are promised."""

READY = Gauge("millrace_ready", "1 while /health/ready answers 200")
LIVE = Gauge("millrace_live", "1 while /health/live answers 200: the event loop and all workers make progress")
FAILED = Gauge("millrace_check_failed", "1 for each check of readiness that fails now", ["check"])

Check = Callable[[], str | None]
"""None when all is well, else what is wrong in a few words."""


@dataclass(slots=True)
class _Beat:
    silence_s: float
    at_s: float | None = None


class Probes:
    """Health of this process. `checks` decide readiness; they are called from the probe's thread and must not block."""

    def __init__(self, bind: Listen | str, silence_s: float = 30.0, registry: CollectorRegistry = REGISTRY) -> None:
        """Listens at once. Raises FatalError when it cannot, ValueError when `bind` is not an address."""
        self.silence_s = silence_s
        self.checks: dict[str, Check] = {}
        self._started = False
        self._beats = {"loop": _Beat(silence_s, time.monotonic())}
        probes = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    probes.show()
                    self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                elif self.path in ("/health/live", "/health/ready"):
                    wrong = probes.wrong(self.path.endswith("ready"))
                    self._answer(503 if wrong else 200, orjson.dumps({"ok": not wrong, "wrong": wrong}))
                else:
                    self._answer(404, b'{"paths":["/metrics","/health/live","/health/ready"]}')

            def _answer(self, status: int, body: bytes, content_type: str = "application/json") -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                log.debug("probe %s", format % args)

        listener = (Listen(bind) if isinstance(bind, str) else bind).open()
        self.port: int = listener.getsockname()[1]
        self._server = ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listener
        self._server.daemon_threads = True

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, name="probes", daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def beat(self) -> None:
        """Called by the service's event loop: it is not stuck."""
        self._beats["loop"].at_s = time.monotonic()

    def worker(self, name: str, silence_s: float) -> Callable[[], None]:
        """Register a thread or task that does the service's work. It calls what is returned whenever it has made
        progress, or has seen that there is nothing to do; after `silence_s` without, the service is not live. Counted
        from the first call, so that a start may wait for what it needs."""
        found = self._beats[name] = _Beat(silence_s)

        def beat() -> None:
            found.at_s = time.monotonic()

        return beat

    def started(self) -> None:
        """The ordered start is done: from now on readiness is what the checks say."""
        self._started = True

    def wrong(self, ready: bool) -> dict[str, str]:
        found: dict[str, str] = {}
        now_s = time.monotonic()
        for name, beat in self._beats.items():
            if beat.at_s is not None and now_s - beat.at_s > beat.silence_s:
                found[name] = f"no beat for {now_s - beat.at_s:.0f} s"
        if ready:
            if not self._started:
                found["start"] = "not finished"
            found |= {name: text for name, check in self.checks.items() if (text := check())}
        return found

    def show(self) -> None:
        """Set the gauges to what health is now."""
        found = self.wrong(True)
        LIVE.set(not self.wrong(False))
        READY.set(not found)
        FAILED.clear()
        for check in found:
            FAILED.labels(check).set(1)
