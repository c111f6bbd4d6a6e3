"""`millrace demo`: everything at once, on this machine: a fleet, a kill -9, and a ledger that reconciles to zero."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import uvloop

from cli import demo_report as report
from cli.context import settings
from cli.fleet import enrolled, progress_bar, workload
from cli.ledger import line
from local import status
from local.fleet import simulate
from local.fleet.plan import Plan
from runtime.clickhouse.client import ClickHouse
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.errors import MillraceError, RetryableError
from runtime.tasks import cancel, in_thread
from sinks.ledger import ledger_totals

DAY_S: Final = 86_400
QUIET_S: Final = 120.0
"""How long the ledger may stay unchanged while messages are in flight."""
_LOOK_S: Final = 1.0
NOBODY: Final = "none"
_FIRST: Final = "SELECT 1 FROM readings WHERE received_at >= {since:DateTime64(3)} LIMIT 1"


class DemoError(MillraceError):
    """The demo did not show what it promises."""


@click.command()
@click.option("--devices", type=click.IntRange(20, 20_000), default=1000, show_default=True, help="Connections.")
@click.option("--rate", type=click.FloatRange(1), default=2000.0, show_default=True, help="Messages a second, all.")
@click.option("--seconds", type=click.FloatRange(2), default=60.0, show_default=True, help="How long the fleet sends.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--kill", "victim", default="access", show_default=True, help=f"Service to kill -9, or {NOBODY}.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Data folder to use and keep; a temporary one if not given.",
)
def demo(devices: int, rate: float, seconds: float, seed: int, victim: str, data: Path | None) -> None:
    """Bring the platform up, run a fleet, kill a service with -9 in the middle, and account for every message.

    The last line is the ledger as JSON; the exit code is 0 only when its differences are 0 and every message of the
    fleet's plan met the fate that the plan foresaw. Nothing is left running.

    Example: millrace demo --seconds 20 --kill bridge
    """
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the platform goes down, too
    with _folder(data) as folder, _platform(folder):
        if victim != NOBODY:
            _service(folder, victim)
        click.echo(f"the platform is up after {time.monotonic() - begun:.1f} s, data in {folder}")
        db = ClickHouse(settings(ClickHouseSettings, folder))
        try:
            # the devices' clocks run so fast that the run is a day: an hourly table has something to show
            plan = Plan(workload(devices, rate, seconds, seed, max(1.0, DAY_S / seconds)))
            totals, mistakes = _show(db, folder, plan, victim, begun)
        finally:
            db.close()
    for mistake in mistakes:
        click.echo(f"WRONG: {mistake}")
    click.echo(line(totals))
    if mistakes:
        sys.exit(1)


@contextmanager
def _folder(data: Path | None) -> Iterator[Path]:
    if data is not None:
        yield data.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="millrace-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _platform(data: Path) -> Iterator[None]:
    """The platform on `data`, down again at the end whatever happens."""
    argv = [sys.executable, "-m", "cli.main"]
    try:
        up = subprocess.run(
            [*argv, "up", "--detach", "--insecure-loopback", "--data", str(data)],
            check=False,
            stdout=subprocess.DEVNULL,
        )
        if up.returncode:
            raise DemoError("the platform did not start")
        yield
    finally:
        if status.is_running(data):
            subprocess.run([*argv, "down", "--data", str(data)], check=False, stdout=subprocess.DEVNULL)


def _show(
    db: ClickHouse, data: Path, plan: Plan, victim: str, begun: float
) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Run the plan and print the outcome: the ledger and what is wrong."""
    before = ledger_totals(db.client)
    since = datetime.now(UTC)
    with _First(db, since) as first:
        fleet, kill = uvloop.run(_run(data, plan, victim))
        totals = _quiet(db, before["messages"]["received"] + plan.workload.messages)
    if first.at is not None:
        click.echo(f"from the start of the demo to the first stored message: {first.at - begun:.1f} s")
    for text in report.sections(db, since, plan, fleet, kill):
        click.echo(text)
    found = report.grown(before, totals)
    click.echo(report.fates(fleet.expected, found))
    return totals, report.mistakes(fleet, found, totals)


async def _run(data: Path, plan: Plan, victim: str) -> tuple[simulate.Report, report.Kill | None]:
    endpoints, tokens = await in_thread(enrolled, plan, data)
    with progress_bar() as bar:
        sending = bar.add_task("send", total=plan.workload.messages)
        started = asyncio.Event()

        def sent(count: int) -> None:
            started.set()
            bar.update(sending, completed=count)

        killing = asyncio.create_task(_kill(data, victim, started, plan.workload.seconds / 2))
        try:
            fleet = await simulate.simulate(plan, endpoints, tokens, simulate.Progress(sent=sent))
            return fleet, await killing
        finally:
            await cancel(killing)


class _First:
    """Watches, while it is open, for the first reading received after `since`; `at`: when it was seen (monotonic)."""

    def __init__(self, db: ClickHouse, since: datetime) -> None:
        self.at: float | None = None
        self._db, self._since = db, since
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_First":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while self.at is None and not self._over.wait(0.1):
            with suppress(RetryableError):  # ClickHouse may be the one that was killed
                if self._db.rows(_FIRST, {"since": self._since}):
                    self.at = time.monotonic()


async def _kill(data: Path, victim: str, started: asyncio.Event, after_s: float) -> report.Kill | None:
    """Kill -9 the service in the middle and wait until it is ready again."""
    if victim == NOBODY:
        return None
    await started.wait()
    await asyncio.sleep(after_s)
    service = _service(data, victim)
    pid = service["pid"]
    if pid is None:
        raise DemoError(f"{victim} does not run: {service['state']}")
    os.kill(pid, signal.SIGKILL)
    at, since = datetime.now(UTC), time.monotonic()
    while True:
        await asyncio.sleep(0.05)
        service = _service(data, victim)
        if service["pid"] != pid and service["state"] == "running":
            return report.Kill(victim, at, time.monotonic() - since)
        if time.monotonic() - since > QUIET_S:
            raise DemoError(f"{victim} did not restart: {service['state']} {service.get('why', '')}")


def _service(data: Path, name: str) -> dict[str, Any]:
    services = (status.read(data) or {}).get("services", [])
    for service in services:
        if service["name"] == name:
            return dict(service)
    raise DemoError(f"there is no service {name!r} to kill; there are {', '.join(s['name'] for s in services)}")


def _quiet(db: ClickHouse, received: int) -> dict[str, dict[str, int]]:
    """The ledger when nothing is in flight any more and it knows of `received` messages."""
    last: object = None
    since = time.monotonic()
    while True:
        try:
            totals = ledger_totals(db.client)
        except RetryableError:  # ClickHouse may be the one that was killed
            totals = None
        if totals != last:
            last, since = totals, time.monotonic()
        if totals and totals["messages"]["received"] >= received and not _in_flight(totals):
            return totals
        if time.monotonic() - since > QUIET_S:
            raise DemoError(
                f"messages are still in flight: the ledger stays at {totals}; {received} messages were sent"
            )
        time.sleep(_LOOK_S)


def _in_flight(totals: dict[str, dict[str, int]]) -> int:
    return sum(section["in_flight"] for section in totals.values())
