"""A real platform is broken on purpose; the real Prometheus with our rules says what broke, and the runbook's check
finds it. All times of the rules are a tenth; so the windows are short, and the conditions are ours.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from tests.chaos.running import ROOT, Running
from tests.monitoring.servers import Alertmanager, Prometheus
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
PATIENCE_S = 60.0
BURNT = {"ReadingsBudgetBurning"}
FLOWS = """sum(rate(millrace_access_readings_total[10s])) > 0 and sum(rate(millrace_relay_ticks_total[6s])) > 0
and sum(rate(millrace_sink_rows_total{table="readings"}[10s])) > 0
and sum(millrace_kafka_group_lag_records{group="access"}) >= 0"""
"""Readings are accepted and stored, ticks are sent, and access has committed for the first time."""
YEAR_MS = 365 * 86_400_000


class Lab:
    """The platform with Prometheus and Alertmanager beside it, and a steady fleet."""

    def __init__(self, running: Running, prometheus: Prometheus, alertmanager: Alertmanager) -> None:
        self.running, self.prometheus, self.alertmanager = running, prometheus, alertmanager

    def firing(self, name: str, **labels: str) -> list[dict[str, Any]]:
        wanted = {"alertname": name} | labels
        return [found for found in self.prometheus.firing() if wanted.items() <= found["labels"].items()]

    def wait(self, name: str, **labels: str) -> str:
        """Wait until the alert fires; what it says."""
        began = time.monotonic()
        found = wait_for(lambda: self.firing(name, **labels), lambda: f"{name} to fire, not {self.names()}", PATIENCE_S)
        says: str = found[0]["annotations"]["summary"]
        print(f"\n{time.monotonic() - began:5.1f} s  {name} {labels or ''}: {says}")
        return says

    def names(self) -> set[str]:
        return {found["labels"]["alertname"] for found in self.prometheus.firing()}

    def wait_quiet(self) -> None:
        """Wait until nothing fires but for budgets that are burnt: they stay so for hours."""
        wait_for(lambda: not self.names() - BURNT, lambda: f"{self.names()} to end", 2 * PATIENCE_S)

    def suppressed(self, name: str) -> bool:
        """Whether Alertmanager knows the alert and hides it behind its cause."""
        found = [a for a in self.alertmanager.alerts() if a["labels"]["alertname"] == name]
        return bool(found) and all(alert["status"]["state"] == "suppressed" for alert in found)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("alerts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILLRACE_WATCH_EVERY_S", "1")
        patch.setenv("MILLRACE_WATCH_LEDGER_EVERY_S", "2")
        with Running(folder / "data") as running, _fleet(running):
            alertmanager = Alertmanager(folder / "alertmanager")
            prometheus = Prometheus(folder / "prometheus", running.data / "run" / "targets.json", alertmanager.url)
            try:
                alertmanager.start()
                prometheus.start()
                _until(lambda: bool(prometheus.value(FLOWS)), "nothing flows")
                yield Lab(running, prometheus, alertmanager)
            finally:
                prometheus.stop()
                alertmanager.stop()


@contextmanager
def _fleet(running: Running, rate: int = 60) -> Iterator[None]:
    words = (
        "fleet",
        "simulate",
        "--devices",
        "60",
        "--rate",
        str(rate),
        "--seconds",
        "900",
        "--data",
        str(running.data),
    )
    argv = [sys.executable, "-m", "cli.main", *words]
    fleet = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        fleet.kill()
        fleet.wait()


@contextmanager
def held_down(running: Running, service: str) -> Iterator[None]:
    """kill -9 as often as it is started again."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.02):
            running.signal(service, SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def hung(running: Running, service: str) -> Iterator[int]:
    pid = running.pid(service)
    assert pid is not None
    os.kill(pid, SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, SIGCONT)


class Device:
    """Somebody who publishes at QoS 1."""

    def __init__(self, running: Running, name: str) -> None:
        self.name = name
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        self._client.max_inflight_messages_set(1000)
        self._client.connect(*running.endpoint("mqtt"))
        self._client.loop_start()

    def say(self, body: bytes, count: int = 1) -> None:
        sent = [self._client.publish(f"d/{self.name}/telemetry/climate", body, qos=1) for _ in range(count)]
        sent[-1].wait_for_publish(30)

    def leave(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def saying(running: Running, name: str, body: Callable[[], bytes], count: int = 1) -> Iterator[None]:
    """A device that publishes every 100 ms."""
    over, device = threading.Event(), Device(running, name)

    def say() -> None:
        while not over.wait(0.1):
            device.say(body(), count)

    thread = threading.Thread(target=say)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        device.leave()


def runbook(lab: Lab, name: str, word: str) -> None:
    """The first query of the alert's runbook finds what is wrong."""
    text = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text()
    queries = [line for line in text.splitlines() if line.startswith("millrace sql")]
    found = [lab.running.command("sql", query.split('"')[1]) for query in queries]
    assert any(word in answer for answer in found), "\n".join(found)


def state(lab: Lab, service: str) -> str:
    """As `millrace status` says."""
    told = json.loads(lab.running.command("status", "--json"))
    return next(s["state"] for s in told["services"] if s["name"] == service)


def test_a_platform_that_is_well_is_quiet(lab: Lab) -> None:
    lab.wait_quiet()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert lab.names() - BURNT == set()
        time.sleep(0.5)
    assert {value for _, value in lab.prometheus.value('millrace_ledger{count="difference"}')} == {0.0}


def test_a_device_whose_clock_is_a_year_ahead(lab: Lab) -> None:
    with saying(lab.running, "ahead-1", lambda: b'{"ts":%d,"temperature":20}' % (time.time() * 1000 + YEAR_MS)):
        says = lab.wait("DeviceClockWrong", rule="ahead")
        assert "too far ahead" in says
        runbook(lab, "DeviceClockWrong", "ahead-1")
    lab.wait_quiet()


def test_a_flood_of_dead_letters(lab: Lab) -> None:
    with saying(lab.running, "flood-1", lambda: b"\xff\xfe no JSON", count=20):
        says = lab.wait("DeadLetterFlood", severity="critical")
        assert "cannot be read" in says
        runbook(lab, "DeadLetterFlood", "flood-1")
    lab.wait_quiet()


def test_a_worker_that_hangs(lab: Lab) -> None:
    with hung(lab.running, "access") as pid:
        assert "access" in lab.wait("ServiceDown", service="access")
        lab.wait("LagGrowing", service="access")
        assert "State:\tT" in Path(f"/proc/{pid}/status").read_text()
        assert state(lab, "access") == "unready"
    lab.wait_quiet()


def test_a_queue_in_mosquitto_that_grows(lab: Lab) -> None:
    with hung(lab.running, "bridge"), saying(lab.running, "queue-1", lambda: b'{"temperature":20}', count=30):
        assert "the bridge does not take them" in lab.wait("MosquittoQueueGrowing", engine="mosquitto")
        lab.wait("ServiceDown", service="bridge")
        assert state(lab, "bridge") == "unready"
    lab.wait_quiet()


DETECTORS = """
rules:
  - metric: heat
    detectors: [limits: {high: 100, severity: critical}]
incidents: {quiet: 5s, cool_down: 5s}
"""


@contextmanager
def notified(lab: Lab) -> Iterator[None]:
    """`millrace notify` beside it."""
    words = ("notify", "--alertmanager", lab.alertmanager.url, "--data", str(lab.running.data))
    process = subprocess.Popen([sys.executable, "-m", "cli.main", *words], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def test_an_incident_of_a_device_reaches_alertmanager_with_its_explanation(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "detectors.yaml").write_text(DETECTORS)
    lab.running.command("detector", "apply", str(tmp_path / "detectors.yaml"))
    with notified(lab):
        with saying(lab.running, "hot-1", lambda: b'{"heat":500}'):
            _until(lambda: bool(incidents(lab, "hot-1")), "the incident is not reported")
            (alert,) = incidents(lab, "hot-1")
            assert alert["labels"]["metric"] == "heat" and alert["labels"]["severity"] == "critical"
            assert "500" in alert["annotations"]["summary"]
            assert alert["generatorURL"].endswith("var-device=hot-1")
            print(f"\n{alert['annotations']['summary']}")
        told = json.loads((lab.running.data / "run" / "told.json").read_text())
        assert alert["labels"]["incident"] in told


def incidents(lab: Lab, device: str) -> list[dict[str, Any]]:
    return [alert for alert in lab.alertmanager.alerts() if alert["labels"].get("device") == device]


def test_clickhouse_stopped(lab: Lab) -> None:
    with held_down(lab.running, "clickhouse"):
        assert lab.wait("ClickHouseDown", engine="clickhouse") == "ClickHouse does not answer"
        assert "none is stored" in lab.wait("ReadingsNotStored")
        assert state(lab, "clickhouse") in ("restarting", "starting")
        _until(lambda: lab.suppressed("ReadingsNotStored"), "ReadingsNotStored is not hidden behind its cause")
    lab.running.wait_ready()
    lab.wait_quiet()


def test_kafka_stopped(lab: Lab) -> None:
    with held_down(lab.running, "kafka"):
        assert lab.wait("KafkaDown", engine="kafka") == "Kafka does not answer"
        assert "bridge" in lab.wait("MessagesNotAcknowledged", service="bridge")
        assert state(lab, "kafka") in ("restarting", "starting")
        _until(lambda: lab.suppressed("MessagesNotAcknowledged"), "MessagesNotAcknowledged is not hidden")
    lab.running.wait_ready()
    lab.wait_quiet()


def test_nothing_was_lost_by_all_this(lab: Lab) -> None:
    ledger = lab.running.ledger()
    assert ledger["messages"]["difference"] == ledger["readings"]["difference"] == 0
    print(f"\n{ledger['messages']}")


def _until(happened: Callable[[], bool], what: str) -> None:
    wait_for(happened, what, PATIENCE_S)
