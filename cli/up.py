"""`millrace up`, `status` and `down`: the platform on this machine, without Docker."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click
import orjson

from cli.context import folder_option, forget_places, local_option, settings
from cli.target import DATA_ENV
from local import files
from local import status as status_file
from local.disks import Disks, space
from local.folder import prepare
from local.platform import PORTS, USUAL, Platform, missing
from local.programs import tail
from local.scale import Follower
from local.services import SERVICES
from local.supervisor import Supervisor
from runtime import logs
from runtime.errors import MillraceError

READY_S: Final = 120.0
DOWN_S: Final = 120.0
_LOOK_S: Final = 0.1
_ROOM_BYTES: Final = 64 << 10
SERVICE_NAMES: Final = frozenset(row.name for row in SERVICES)
_json = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")


class UpError(MillraceError):
    """The platform did not start; the message has the reason and the log to read."""


@click.command()
@folder_option
@click.option("--detach", is_flag=True, help="Return when everything is ready; it goes on in the background.")
@click.option(
    "--insecure-loopback",
    "insecure",
    is_flag=True,
    help="Open MQTT without TLS on 127.0.0.1 as well, for trying out: the client id stands for the identity.",
)
@click.option(
    "--kafka-brokers",
    "brokers",
    type=click.Choice(["1", "3"]),
    help="3: every topic on three brokers, two of which must have a record before it counts. Fixed at the first start.",
)
@click.option(
    "--engines-only",
    "engines",
    is_flag=True,
    help="Start Kafka, ClickHouse and mosquitto, and make topics and tables; no service: to restore a backup.",
)
def up(data: Path, detach: bool, insecure: bool, brokers: str | None, engines: bool) -> None:
    """Start Kafka, ClickHouse, mosquitto and Millrace's services, and keep them running.

    Example: millrace up --insecure-loopback --detach
    """
    _check_machine()
    data = prepare(data)
    os.umask(0o077)
    forget_places()
    os.environ[DATA_ENV] = str(data)  # for `millrace init`, which runs as a service
    try:
        _check_room(data)
        if detach:
            _detached(data, insecure, brokers, engines)
        else:
            _in_the_foreground(data, insecure, brokers, engines)
    except OSError as error:
        free = space(data).free
        raise UpError(f"the platform cannot be started: {error} ({free / 2**20:,.1f} MiB free on {data})") from error


@click.command()
@_json
@click.option("--port", "endpoint", type=click.Choice(list(USUAL)), help="Print the port of this endpoint only.")
@local_option
def status(as_json: bool, endpoint: str | None, data: Path) -> None:
    """Services with their states, addresses, and the ledger. Example: millrace status --json"""
    found = status_file.read(data) or {"ready": False, "supervisor": None, "services": [], "endpoints": {}, "disks": []}
    if endpoint is not None:
        click.echo(_port(found, endpoint, data))
        return
    found["ledger"] = _ledger(data) if _is_up(found, "clickhouse") else None
    click.echo(orjson.dumps(found).decode() if as_json else _table(found, data))


@click.command()
@local_option
def down(data: Path) -> None:
    """Stop the platform: services that receive messages first, Kafka last. Nothing that was acknowledged is lost.

    Example: millrace down
    """
    if not status_file.is_running(data):
        click.echo(f"nothing runs on {data}")
        return
    pid = status_file.pid_of(data)
    assert pid is not None
    with suppress(ProcessLookupError):  # it ended just now
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_S
    while status_file.is_running(data):
        if time.monotonic() > deadline:
            raise UpError(f"process {pid} still runs after {DOWN_S:.0f} s: see {data / 'logs'}")
        time.sleep(_LOOK_S)
    click.echo("stopped")


def _check_machine() -> None:
    lacking = missing()
    if lacking:
        lines = "".join(f"\n  {what.what}\n      {what.command}" for what in lacking)
        raise UpError(f"missing on this machine:{lines}\n`make setup` installs them if it has the permission")


def _check_room(data: Path) -> None:
    """Raises OSError on a full disk, on which a detached start could not even log why it failed."""
    probe = data / "run" / "room"
    files.replace(probe, bytes(_ROOM_BYTES))
    probe.unlink()


def _in_the_foreground(data: Path, insecure: bool, brokers: str | None, engines: bool) -> None:
    with status_file.lock(data) as programs:
        logs.configure("up", form="human")
        platform = Platform.on(data, insecure, int(brokers) if brokers else None)
        files.replace(platform.run / PORTS, orjson.dumps(platform.port))
        status_file.write_environment(platform.run, platform.client_environment())
        specs, endpoints = platform.specs(), platform.endpoints()
        if engines:
            specs = [spec for spec in specs if spec.one_shot or spec.name not in SERVICE_NAMES]

        def changed(services: Any) -> None:
            found = status_file.describe(services, supervisor.specs, endpoints, spaces.spaces.values())
            found["command"] = platform.command()
            publisher.publish("status.json", orjson.dumps(found))
            publisher.publish("targets.json", status_file.targets(supervisor.specs))

        def look_at_disks(supervisor: Supervisor) -> None:
            if spaces.look(time.monotonic()):
                changed(list(supervisor.services.values()))
            publisher.flush(time.monotonic())

        publisher, spaces = status_file.Publisher(platform.run), Disks(platform.folders())
        parts = (platform.guard(), look_at_disks, Follower(platform.run, platform.worker))
        supervisor = Supervisor(specs, platform.logs, changed, parts, keep_open=(programs,))
        if not supervisor.run():
            raise UpError(_failures(status_file.read(data) or {}, data))


def _detached(data: Path, insecure: bool, brokers: str | None, engines: bool) -> None:
    if status_file.is_running(data):
        with status_file.lock(data):  # says so and how to go on
            pass
    log = data / "logs" / "supervisor.log"
    argv = [sys.executable, "-m", "cli.main", "up", "--data", str(data)]
    with files.append(log) as output:
        child = subprocess.Popen(
            argv
            + ["--insecure-loopback"] * insecure
            + ["--engines-only"] * engines
            + (["--kafka-brokers", brokers] if brokers else []),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _wait_ready(child, data, log)
    found = status_file.read(data) or {}
    click.echo(f"the platform on {data} is ready")
    for name, where in found["endpoints"].items():
        click.echo(f"  {name:12}{where or '(closed)'}")
    if found.get("command"):
        click.echo(f"a first message:\n  {found['command']}")


def _port(found: dict[str, Any], endpoint: str, data: Path) -> int:
    if found["supervisor"] is None:
        raise UpError(f"nothing runs on {data}: `millrace up` starts it")
    where = found["endpoints"][endpoint]
    if where is None:
        raise UpError(f"{endpoint} is closed on {data}: `millrace up --insecure-loopback` opens it")
    return int(where.rsplit(":", 1)[1].partition("/")[0])


def _full(found: dict[str, Any]) -> list[str]:
    full = [disk for disk in found.get("disks", ()) if disk["full_since"]]
    return [
        f"  the disk of {disk['path']} is full since {disk['full_since']}: {disk['free_bytes'] / 2**20:,.1f} MiB free"
        f" of {disk['size_bytes'] / 2**20:,.1f}: make room, see docs/operations/disk-full.md"
        for disk in full
    ]


def _wait_ready(child: "subprocess.Popen[bytes]", data: Path, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        found = status_file.read(data) or {}
        mine = found.get("supervisor") == child.pid
        if mine and found["ready"]:
            return
        if child.poll() is not None:
            raise UpError(tail(log, 3).removeprefix("millrace: "))
        if mine and any(service["state"] == "failed" for service in found["services"]):
            raise UpError(_failures(found, data))
        if time.monotonic() > deadline:
            raise UpError(f"not ready after {READY_S:.0f} s; it goes on trying.\n{_table(found, data)}")
        time.sleep(_LOOK_S)


def _failures(found: dict[str, Any], data: Path) -> str:
    failed = [s for s in found.get("services", []) if s["state"] == "failed"]
    ends = [f"{s['name']}: {s['why']}\n{tail(data / 'logs' / (s['name'] + '.log'), 5)}" for s in failed]
    return "the platform did not start.\n" + "\n".join(ends)


def _is_up(found: dict[str, Any], name: str) -> bool:
    return any(s["name"] == name and s["state"] == "running" for s in found["services"])


def _ledger(data: Path) -> dict[str, Any] | None:
    """The ledger, or None while it cannot be read: before the first start is done, or in the middle of a restart."""
    from runtime.clickhouse.client import ClickHouse
    from runtime.clickhouse.settings import ClickHouseSettings
    from sinks.ledger import ledger_totals

    try:
        db = ClickHouse(settings(ClickHouseSettings, data))
        try:
            return ledger_totals(db.client)
        finally:
            db.close()
    except MillraceError:
        return None


def _table(found: dict[str, Any], data: Path) -> str:
    lines = [f"{data}: {'ready' if found.get('ready') else 'not ready'}", *_full(found)]
    for s in found.get("services", []):
        pid = s["pid"] or "-"
        lines.append(
            f"  {s['name']:12} {s['state']:11} pid {pid:<8} restarts {s['restarts']}  {s.get('why', '')}".rstrip()
        )
    lines += [f"  {name:12} {where or '(closed)'}" for name, where in found.get("endpoints", {}).items()]
    if found.get("ledger"):
        lines.append(f"  {'ledger':12} {orjson.dumps(found['ledger']).decode()}")
    return "\n".join(lines)
