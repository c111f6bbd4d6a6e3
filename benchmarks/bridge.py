"""The MQTT bridge: CPU a message through a real mosquitto beside two naive bridges, and flooded by a fake broker.

Everything runs as processes of its own, on a real Kafka; the CPU is that of the bridge's process with all its threads,
librdkafka's included. Every message is acknowledged to the broker after Kafka acknowledged it.
"""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure, cpu_of_s
from local.ports import free
from runtime.kafka import topics
from runtime.settings import KafkaSettings
from tests.servers import KafkaServer, MosquittoServer

RUNS = 5
PARTITIONS = 4
DEVICES = 1_000
MESSAGES = 60_000
RIVAL_MESSAGES = 15_000
FLOOD_MESSAGES = 300_000


def figures() -> Iterable[Figure]:
    """bridge_qos1_us, bridge_told_us, bridge_flood_us, bridge_flood_msgs_per_s."""
    with tempfile.TemporaryDirectory() as folder, _lab(Path(folder)) as lab:
        qos1, told, honest, careless = [], [], [], []
        for _ in range(RUNS):
            qos1.append(_ours(lab))
            told.append(_ours(lab, "told"))
            honest.append(_rival(lab, "honest"))
            careless.append(_rival(lab, "careless"))
        ours = median(qos1)
        yield Figure("bridge_qos1_us", ours, "us/message", "honest naive gmqtt bridge", median(honest))
        yield Figure("bridge_qos1_careless_us", ours, "us/message", "careless naive gmqtt bridge", median(careless))
        yield Figure("bridge_told_us", median(told), "us/message", "honest naive gmqtt bridge", median(honest))
        flooded = [_flood(lab) for _ in range(RUNS)]
        yield Figure("bridge_flood_us", median(cpu for cpu, _ in flooded), "us/message")
        yield Figure("bridge_flood_msgs_per_s", median(rate for _, rate in flooded), "messages/s")


@dataclass(frozen=True)
class Lab:
    kafka: KafkaServer
    mosquitto: MosquittoServer


@contextmanager
def _lab(folder: Path) -> Iterator[Lab]:
    lab = Lab(KafkaServer(folder / "k"), MosquittoServer(folder / "m"))
    for server in (lab.kafka, lab.mosquitto):
        server.engine.folder.parent.mkdir()
    lab.mosquitto.engine = replace(lab.mosquitto.engine, bridge_client="millrace.bridge.0")
    try:
        lab.kafka.start()
        lab.mosquitto.start()
        wanted = [*topics.plans(PARTITIONS, 1), topics.Plan("rival", PARTITIONS, {})]
        topics.ensure(KafkaSettings(kafka_bootstrap=lab.kafka.bootstrap), wanted, 1)
        yield lab
    finally:
        lab.mosquitto.kill()
        lab.kafka.kill()


def _ours(lab: Lab, *told: str) -> float:
    """CPU µs a message of the bridge."""
    settings = {
        "MQTT_URL": lab.mosquitto.bridge_url,
        "MQTT_USER": lab.mosquitto.bridge_user,
        "MQTT_PASSWORD_FILE": str(lab.mosquitto.bridge_password_file),
    }
    with _bridge(lab, settings) as (process, acknowledged):
        _publish(lab, 4_000, *told)
        there = _settled(acknowledged)  # the warm-up, and what its session kept while the rivals ran
        before = cpu_of_s(process.pid)
        _publish(lab, MESSAGES, *told)
        _until(lambda: acknowledged() == there + MESSAGES)
        return (cpu_of_s(process.pid) - before) / MESSAGES * 1e6


def _rival(lab: Lab, kind: str) -> float:
    """CPU µs a message of a naive bridge."""
    mosquitto = lab.mosquitto
    where = (str(mosquitto.engine.socket), mosquitto.bridge_user, mosquitto.bridge_password)
    argv = [sys.executable, "-m", "benchmarks.bridge_rivals", kind, *where, lab.kafka.bootstrap, str(RIVAL_MESSAGES)]
    with _process(argv) as process:
        _line(process, "ready")
        before = cpu_of_s(process.pid)
        _publish(lab, RIVAL_MESSAGES)
        _line(process, "done")
        return (cpu_of_s(process.pid) - before) / RIVAL_MESSAGES * 1e6


def _flood(lab: Lab) -> tuple[float, float]:
    """CPU µs a message, and messages a second, of a bridge that may use one core."""
    (port,) = free()
    argv = [sys.executable, "-m", "benchmarks.mqtt_load", "flood", str(port), str(FLOOD_MESSAGES), str(DEVICES)]
    with _process(argv) as broker:
        _line(broker, "up")
        with _bridge(lab, {"MQTT_URL": f"mqtt://127.0.0.1:{port}"}, core=0) as (process, _):
            _round(broker)
            before = cpu_of_s(process.pid)
            rate = _round(broker)
            return (cpu_of_s(process.pid) - before) / FLOOD_MESSAGES * 1e6, rate


def _round(broker: "subprocess.Popen[str]") -> float:
    """One round of the flood: messages a second. The first one warms up."""
    assert broker.stdin is not None
    broker.stdin.write("\n")
    broker.stdin.flush()
    return float(_read(broker))


def _publish(lab: Lab, messages: int, *told: str) -> None:
    mosquitto = lab.mosquitto
    where = (str(mosquitto.engine.socket), mosquitto.bridge_user, mosquitto.bridge_password)
    argv = [sys.executable, "-m", "benchmarks.mqtt_load", "publish", *where, str(messages), str(DEVICES), *told]
    subprocess.run(argv, check=True, timeout=120, stdout=subprocess.DEVNULL)


@contextmanager
def _bridge(
    lab: Lab, settings: dict[str, str], core: int | None = None
) -> Iterator[tuple["subprocess.Popen[str]", Callable[[], int]]]:
    """A bridge that is ready, and how many messages it has acknowledged."""
    (port,) = free()
    environment = {f"MILLRACE_{key}": value for key, value in settings.items()}
    environment |= {"MILLRACE_KAFKA_BOOTSTRAP": lab.kafka.bootstrap, "MILLRACE_HTTP_BIND": f"127.0.0.1:{port}"}
    pin = [] if core is None else ["taskset", "-c", str(core)]
    with _process([*pin, sys.executable, "-m", "bridge.mqtt"], environment) as process:
        _until(lambda: _get(port, "/health/ready") is not None)
        yield process, lambda: _acknowledged(port)


def _acknowledged(port: int) -> int:
    for line in (_get(port, "/metrics") or "").splitlines():
        if line.startswith("millrace_bridge_acknowledged_total "):
            return int(float(line.split()[1]))
    return -1


def _settled(acknowledged: Callable[[], int]) -> int:
    """The count once it no longer grows."""
    last = -1
    while (now := acknowledged()) != last or now <= 0:
        last = now
        time.sleep(0.5)
    return now


def _get(port: int, path: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


@contextmanager
def _process(argv: list[str], environment: dict[str, str] | None = None) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        argv, env=os.environ | (environment or {}), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _read(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _line(process: "subprocess.Popen[str]", expected: str) -> None:
    found = _read(process)
    if found != expected:
        raise RuntimeError(f"{process.args!r} said {found!r}, not {expected!r}")


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError("the bridge does not get on")
        time.sleep(0.1)
