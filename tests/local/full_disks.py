"""`python -m tests.local.full_disks SCENARIO FOLDER`: a platform whose disk fills up while a device sends.

Runs in a mount namespace (tests/support/namespace.py). A device sends numbered messages and repeats each until it is
acknowledged; then a disk is filled to the last byte, and later there is room again. At the end every acknowledged
message is stored once, the ledger has no difference, and the supervisor is the one that was started.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.chaos.running import Running

LIMIT_S: Final = 150.0


@dataclass(frozen=True)
class Scenario:
    """`disks`: MB of the file systems below the data folder; `` is the folder itself. All of them are filled."""

    disks: dict[str, int]
    noticed: Callable[[dict[str, Any]], bool]
    """Whether the full disk has had its effect, by the platform's status."""
    killed: bool = False
    """Whether the supervisor is killed with -9 on the full disk, and started again when there is room."""


def _kafka_ended(status: dict[str, Any]) -> bool:
    return bool(_service(status, "kafka")["restarts"] or _service(status, "kafka")["state"] == "restarting")


def _mosquitto_stopped(status: dict[str, Any]) -> bool:
    return bool(_service(status, "mosquitto")["state"] == "stopped")


SCENARIOS: Final = {
    "kafka": Scenario({"kafka": 192}, _kafka_ended),
    "mosquitto": Scenario({"mosquitto": 16}, _mosquitto_stopped),
    "clickhouse": Scenario({"clickhouse": 256}, lambda status: _service(status, "sink")["state"] == "unready"),
    "run-and-logs": Scenario({"run": 4, "logs": 16}, lambda status: True),
    "all-on-one": Scenario({"": 400}, _mosquitto_stopped),
    "all-on-one-and-kill-9": Scenario({"": 400}, _mosquitto_stopped, killed=True),
}


class Device(threading.Thread):
    """Sends message after message; `acknowledged` are the seqs with a PUBACK."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[int] = []
        self._stop_it = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "disk-1", protocol=mqtt.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._answered: set[int] = set()
        self._client.on_publish = lambda _client, _data, mid, _reason, _properties: self._answered.add(mid)
        self._client.connect_async("127.0.0.1", port)

    def run(self) -> None:
        self._client.loop_start()
        seq = 0
        while not self._stop_it.is_set():
            own = Properties(PacketTypes.PUBLISH)
            own.UserProperty = [("boot", "1"), ("seq", str(seq))]
            sent = self._client.publish("d/disk-1/telemetry/climate", f'{{"temperature":{seq}}}', 1, properties=own)
            while sent.mid not in self._answered and not self._stop_it.is_set():
                self._stop_it.wait(0.01)
            if sent.mid in self._answered:
                self._answered.clear()
                self.acknowledged.append(seq)
                seq += 1
            self._stop_it.wait(0.02)
        self._client.loop_stop()

    def finish(self) -> None:
        self._stop_it.set()
        self.join()

    def has_sent(self, more: int) -> Callable[[], bool]:
        wanted = len(self.acknowledged) + more
        return lambda: len(self.acknowledged) >= wanted


def _service(status: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in status["services"] if one["name"] == name)


def until(happened: Callable[[], bool], what: str, running: Running) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < deadline, f"{what}: {json.dumps(running.status())}\n{_log(running)}"
        time.sleep(0.2)


def _log(running: Running) -> str:
    return "\n".join((running.data / "logs" / "supervisor.log").read_text().splitlines()[-20:])


def mount(folder: Path, megabytes: int) -> None:
    folder.mkdir(mode=0o700, parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "full-disk", folder], check=True)


def fill(folder: Path) -> None:
    """To the last byte, and what is freed meanwhile, too."""
    with (folder / "ballast").open("ab", buffering=0) as file:
        for block in (1 << 20, 4096, 1):
            while True:
                try:
                    file.write(bytes(block))
                except OSError:
                    break


def printed(running: Running) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(running.command("status", "--json"))
    return found


def named(running: Running) -> set[str]:
    """The disks that are full, says the status."""
    return {disk["path"] for disk in printed(running)["disks"] if disk["full_since"]}


def main() -> None:
    scenario, data = SCENARIOS[sys.argv[1]], Path(sys.argv[2]) / "data"
    for name, megabytes in sorted(scenario.disks.items()):
        mount(data / name if name else data, megabytes)
    with Running(data) as running:
        supervisor = running.status()["supervisor"]
        device = Device(running.endpoint("mqtt")[1])
        device.start()
        until(device.has_sent(100), "a device sends", running)
        for name in scenario.disks:
            fill(data / name)
        began = time.monotonic()
        until(lambda: scenario.noticed(printed(running)), "the full disk is noticed", running)
        full = {str(data / name) for name in scenario.disks}
        until(lambda: named(running) == full, "the full disks are named", running)
        assert "is full since" in running.command("status")
        doctor = running.command("doctor", check=False)
        assert all(f"the disk of {path} is full since" in doctor for path in full), doctor
        lasted = time.monotonic() - began
        while_full = len(device.acknowledged)
        if scenario.killed:
            os.kill(supervisor, signal.SIGKILL)
            for name in scenario.disks:
                fill(data / name)
            check_refused(running)
        for name in scenario.disks:
            (data / name / "ballast").unlink()
        if scenario.killed:
            running.command("up", "--insecure-loopback", "--detach")
        until(device.has_sent(100), "the device sends again", running)
        device.finish()
        until(lambda: printed(running)["ready"], "the platform is ready again", running)
        until(lambda: not named(running), "no disk is full", running)
        check(running, device)
        assert scenario.killed or running.status()["supervisor"] == supervisor, _log(running)
        sent = len(device.acknowledged)
        print(f"{sys.argv[1]}: {sent} acknowledged, {while_full} before there was room; full for {lasted:.0f} s")


def check_refused(running: Running) -> None:
    """A start on a full disk says so."""
    argv = [sys.executable, "-m", "cli.main", "up", "--detach", "--data", str(running.data)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "the platform cannot be started" in done.stderr and "No space left on device" in done.stderr, done.stderr


def check(running: Running, device: Device) -> None:
    """Every acknowledged message is stored, once, and the ledger has no difference."""
    running.wait_quiet(len(device.acknowledged))
    rows = (
        running.clickhouse().query("SELECT seq, count() FROM readings WHERE device = 'disk-1' GROUP BY seq").result_rows
    )
    stored = {int(seq): int(count) for seq, count in rows}
    lost = [seq for seq in device.acknowledged if seq not in stored]
    assert not lost, f"acknowledged and not stored: {lost}\n{_log(running)}"
    assert set(stored.values()) == {1}
    assert all(section["difference"] == 0 for section in running.ledger().values())


if __name__ == "__main__":
    main()
