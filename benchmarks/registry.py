"""The registry with a million devices: how soon services start, and what commands take, in seconds.

registry_relay_start_s     until the relay is ready
registry_http_start_s      until bridge-http is ready: it has read all of the registry
registry_http_mb           its resident memory then
registry_show_s            `millrace device show` of one device
registry_list_role_s       `millrace device list --role` of 1,000 devices
registry_add_10000_s       `millrace device add --from` of 10,000 devices, until it is in force
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.http import _ready
from local.engines.kafka import Kafka
from local.ports import LOOPBACK, free
from local.programs import Process, Program, launch
from runtime.kafka import applied, topics
from runtime.kafka.log import LogReader
from runtime.kafka.produce import NewRecord, produce_confirmed
from runtime.settings import KafkaSettings
from schemas.control import FORMAT, FORMAT_HEADER, Device, device_key, token_hash
from schemas.topics import CONTROL

DEVICES = int(os.environ.get("MILLRACE_BENCH_DEVICES", "1000000"))
ADDED = 10_000
RARE = 1_000
"""Devices of the role that is listed."""


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        engine = Kafka(folder / "kafka", *free(2))
        stack.callback(launch(engine.program(), folder / "kafka.log").kill)
        settings = KafkaSettings(kafka_bootstrap=engine.bootstrap)
        topics.ensure(settings, topics.plans(4, 1), 1)
        produce_confirmed(settings, (_record(n) for n in range(DEVICES)))
        yield from _services(stack, settings, folder)
        yield from _commands(settings, folder)


def _record(number: int) -> NewRecord:
    name, role = f"device-{number}", "rare" if number % (DEVICES // RARE) == 0 else "meter"
    device = Device(name, role, labels={"site": f"site-{number % 100}"}, token=token_hash(name))
    return NewRecord(CONTROL, device.encode(), key=device_key(name), headers=[(FORMAT_HEADER, FORMAT)])


def _services(stack: ExitStack, settings: KafkaSettings, folder: Path) -> Iterator[Figure]:
    http, seconds = _start(settings, folder, "bridge.http", LISTEN=f"{LOOPBACK}:{free()[0]}")
    stack.callback(http.kill)
    yield Figure("registry_http_start_s", seconds, "s")
    yield Figure("registry_http_mb", _resident_mb(http.pid), "MB")
    relay, _ = _start(settings, folder, "control.relay")  # the first one carries all of the registry in band
    _until_relayed(settings)
    relay.kill()
    relay, seconds = _start(settings, folder, "control.relay")
    stack.callback(relay.kill)
    yield Figure("registry_relay_start_s", seconds, "s")


def _start(settings: KafkaSettings, folder: Path, module: str, **more: str) -> tuple[Process, float]:
    (probes,) = free()
    environment = {"KAFKA_BOOTSTRAP": settings.kafka_bootstrap, "HTTP_BIND": f"{LOOPBACK}:{probes}"} | more
    named = {f"MILLRACE_{key}": value for key, value in environment.items()}
    program = Program(module, (sys.executable, "-m", module), lambda: _ready(probes), named)
    begun = time.monotonic()
    process = launch(program, folder / f"{module}.log", 300)
    return process, time.monotonic() - begun


def _until_relayed(settings: KafkaSettings) -> None:
    """Wait until the relay has applied the whole log."""
    with LogReader(settings) as log:
        end = log.bounds(CONTROL, 0)[1]
    while True:
        try:
            late = applied.behind(settings, end, 60)
        except applied.NoReaderError:  # the relay publishes its position when it has caught up
            time.sleep(0.5)
        else:
            if all(reader.name.startswith("bridge-http") for reader in late):
                return


def _commands(settings: KafkaSettings, folder: Path) -> Iterator[Figure]:
    file = folder / "devices.csv"
    file.write_text("id,role,label.site\n" + "".join(f"added-{n},meter,north\n" for n in range(ADDED)))
    for name, arguments in (
        ("registry_show_s", ("show", "device-4711")),
        ("registry_list_role_s", ("list", "--role", "rare")),
        ("registry_add_10000_s", ("add", "--from", str(file), "--wait-s", "60")),
    ):
        begun = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "cli.main", "device", *arguments],
            env=os.environ | {"MILLRACE_KAFKA_BOOTSTRAP": settings.kafka_bootstrap},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        yield Figure(name, time.monotonic() - begun, "s")


def _resident_mb(pid: int) -> float:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
