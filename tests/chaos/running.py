"""The whole platform as real processes, to be killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from local import status
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
QUIET_S = 180.0
SIGTERM_SHARE = 0.4
"""Of the ends: a stop stores snapshots and commits, which a kill never shows."""


class Running:
    """A platform in a folder of its own. Use as a context manager."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def command(self, *words: str, timeout_s: float = 180.0, check: bool = True) -> str:
        """Run `millrace …` on this platform; its standard output."""
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *words],
            cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False,
            env=os.environ | {"MILLRACE_DATA": str(self.data)},
        )  # fmt: skip
        assert not check or done.returncode == 0, f"millrace {words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def __enter__(self) -> "Running":
        self.command("up", "--insecure-loopback", "--detach")
        return self

    def __exit__(self, *_: object) -> None:
        self.command("down", check=False)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data / "run" / "status.json").read_text())
        return found

    def endpoint(self, name: str) -> tuple[str, int]:
        parts = urlsplit(self.status()["endpoints"][name])
        return parts.hostname or "", parts.port or 0

    def pid(self, service: str) -> int | None:
        return next((s["pid"] for s in self.status()["services"] if s["name"] == service), None)

    def signal(self, service: str, number: int) -> bool:
        """Send a signal to a service's process; False while it has none."""
        pid = self.pid(service)
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def clickhouse(self) -> Client:
        environment = status.environment(self.data)
        url = urlsplit(environment["MILLRACE_CLICKHOUSE_URL"])
        password = Path(environment["MILLRACE_CLICKHOUSE_PASSWORD_FILE"]).read_text().strip()
        return clickhouse_connect.get_client(
            host=url.hostname, port=url.port, username=url.username, password=password, database="millrace"
        )

    def wait_ready(self, timeout_s: float = 120.0) -> None:
        wait_for(lambda: self.status()["ready"], lambda: f"ready: {json.dumps(self.status())}", timeout_s)

    def ledger(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = json.loads(self.command("ledger", "--json").splitlines()[-1])
        return found

    def _ledger_or_why_not(self) -> dict[str, dict[str, int]] | str:
        """ClickHouse may be on its way back from its last kill."""
        try:
            return self.ledger()
        except AssertionError as error:
            return str(error)

    def wait_quiet(self, at_least: int = 0, timeout_s: float = QUIET_S) -> dict[str, dict[str, int]]:
        """Wait until nothing is in flight and `at_least` messages were received; the ledger then."""
        seen: list[dict[str, dict[str, int]] | str] = [""]

        def quiet() -> dict[str, dict[str, int]] | None:
            found = self._ledger_or_why_not()
            before, seen[0] = seen[0], found
            if isinstance(found, str) or found != before or found["messages"]["received"] < at_least:
                return None
            return None if any(section["in_flight"] for section in found.values()) else found

        return wait_for(quiet, lambda: f"quiet: {seen[0]}", timeout_s, every_s=1.5)


class Killer:
    """Ends services at random moments: by kill -9 or SIGTERM, as the seed has it; mosquitto by SIGTERM unless
    `crash_broker`. Only kills of what runs count; a service that was asked to stop may be killed while it does."""

    VICTIMS = ("bridge", "access", "sink", "kafka", "clickhouse", "relay", "aggregate", "anomaly", "presence")

    def __init__(self, running: Running, seed: int, crash_broker: bool = False) -> None:
        self.running, self.random, self.crash_broker = running, random.Random(seed), crash_broker
        self.kills: dict[str, int] = {}

    def kill_one(self) -> None:
        victim = self.random.choice((*self.VICTIMS, "mosquitto"))
        graceful = self.random.random() < SIGTERM_SHARE or (victim == "mosquitto" and not self.crash_broker)
        if self.running.signal(victim, signal.SIGTERM if graceful else signal.SIGKILL):
            name = f"{victim} stopped" if graceful else victim
            self.kills[name] = self.kills.get(name, 0) + 1

    @property
    def total(self) -> int:
        return sum(self.kills.values())

    def run(self, kills: int, pause_s: tuple[float, float]) -> None:
        while self.total < kills:
            time.sleep(self.random.uniform(*pause_s))
            self.kill_one()
