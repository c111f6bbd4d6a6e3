"""The platform on one machine: folders, ports, engines and services put together for the supervisor."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from local import disks, ports, services
from local.engines import kafka
from local.engines.clickhouse import ClickHouse
from local.engines.kafka import Kafka
from local.engines.kafka_keys import KafkaKeys
from local.engines.mosquitto import BRIDGE_USER, Mosquitto
from local.guard import MosquittoGuard
from local.supervisor import Spec
from runtime.errors import RefusedError

USUAL: Final = {"mqtt": 1883, "mqtts": 8883, "http": 8080, "kafka": 9092, "clickhouse": 8123}
BRIDGE_CLIENT: Final = "millrace.bridge.0"
"""Client id of the bridge with MILLRACE_INSTANCE=0: its session is made before the device listeners open.
No device can have it: `.` is not in the grammar of device ids."""
MOST_BROKERS: Final = 3
PORTS: Final = "ports.json"
AUTHORITY: Final = "identity"
"""Folder below the data folder where the certificate authority lives; `millrace device add --cert` uses it too."""


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform on `data` (absolute), with the ports it got at this start."""

    data: Path
    port: Mapping[str, int]
    insecure: bool
    brokers: tuple[Kafka, ...]
    probes: Mapping[str, int]
    """Where each service shows its health and metrics."""

    @classmethod
    def on(cls, data: Path, insecure: bool, brokers: int | None = None) -> "Platform":
        """Choose ports: those of the last start, at first the usual ones, where they are free. `brokers`: None for as
        many as there were, at first one.

        Raises RefusedError where data of another number of brokers is there.
        """
        data = data.resolve()
        count = _count(data, brokers)
        before = ports.remembered(data / "run" / PORTS, USUAL)
        usual, more = ports.allocate(list(before.values()), 2 * count + len(services.SERVICES))
        port = dict(zip(USUAL, usual, strict=True))
        probes = {row.name: more.pop() for row in services.SERVICES}
        return cls(data, port, insecure, _brokers(data, port["kafka"], more, count), probes)

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def run(self) -> Path:
        return self.data / "run"

    @property
    def clickhouse(self) -> ClickHouse:
        return ClickHouse(self.data / "clickhouse", self.port["clickhouse"])

    @property
    def mosquitto(self) -> Mosquitto:
        plain = self.port["mqtt"] if self.insecure else None
        return Mosquitto(self.data / "mosquitto", self.data / AUTHORITY, self.port["mqtts"], plain, BRIDGE_CLIENT)

    @property
    def kafka_keys(self) -> KafkaKeys:
        return _keys(self.data)

    def guard(self) -> MosquittoGuard:
        """Keeps mosquitto from a full disk; called at each look of the supervisor."""
        return MosquittoGuard(self.mosquitto.folder)

    def folders(self) -> list[Path]:
        """Where something is written: each may be a file system of its own."""
        engines = [broker.folder for broker in self.brokers]
        return [self.data, *engines, self.clickhouse.folder, self.mosquitto.folder, self.run, self.logs]

    def _disks(self) -> list[tuple[str, Path]]:
        """Names and folders of the file systems."""
        return [("data" if path == self.data else path.name, path) for path in disks.distinct(self.folders())]

    def command(self) -> str | None:
        """A first message, as a shell takes it; None where every device needs a certificate."""
        if not self.insecure:
            return None
        topic, message = "d/sensor-1/telemetry/climate", '{"temperature":21.5}'
        return f"mosquitto_pub -V 5 -q 1 -p {self.port['mqtt']} -i sensor-1 -t {topic} -m '{message}'"

    def endpoints(self) -> dict[str, str | None]:
        """Where things are, for people and programs; null: not open."""
        at = ports.LOOPBACK
        return {
            "mqtt": f"mqtt://{at}:{self.port['mqtt']}" if self.insecure else None,
            "mqtts": f"mqtts://{at}:{self.port['mqtts']}",
            "http": f"http://{at}:{self.port['http']}",
            "kafka": self.bootstrap,
            "clickhouse": self.clickhouse.url,
        }

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.bootstrap for broker in self.brokers)

    def environment(self) -> dict[str, str]:
        """Settings of the services, by name without prefix."""
        return {
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "KAFKA_SECURITY": str(self.kafka_keys.clients),
            "REPLICATION": str(len(self.brokers)),
            "CLICKHOUSE_URL": self.clickhouse.url,
            "CLICKHOUSE_PASSWORD_FILE": str(self.clickhouse.password_file),
            "MQTT_URL": self.mosquitto.bridge_url,
            "MQTT_USER": BRIDGE_USER,
            "MQTT_PASSWORD_FILE": str(self.mosquitto.bridge_password_file),
            "LISTEN": f"{ports.LOOPBACK}:{self.port['http']}",
            "STARTING_POLICY": "loopback" if self.insecure else "default",
            "WATCH_DISKS": ",".join(f"{name}={_listed(path)}" for name, path in self._disks()),
            "WATCH_TLS": f"{ports.LOOPBACK}:{self.port['mqtts']}",
            "WATCH_CERTIFICATES": _listed(self.data / AUTHORITY / "ca.crt"),
        }

    def client_environment(self) -> dict[str, str]:
        """Settings of clients and devices: DATA/run/env."""
        endpoints = self.endpoints()
        found = {
            "DEVICE_MQTT_URL": endpoints["mqtt"],
            "DEVICE_MQTTS_URL": endpoints["mqtts"],
            "DEVICE_HTTP_URL": endpoints["http"],
            "CA_FILE": str(self.data / AUTHORITY / "ca.crt"),
            "DATA": str(self.data),
            "ANALYST_URL": self.clickhouse.analyst_url,
            "ANALYST_PASSWORD_FILE": str(self.clickhouse.analyst_password_file),
        }
        shared = ("KAFKA_BOOTSTRAP", "KAFKA_SECURITY", "CLICKHOUSE_URL", "CLICKHOUSE_PASSWORD_FILE")
        found |= {name: self.environment()[name] for name in shared}
        return {f"MILLRACE_{name}": value for name, value in found.items() if value is not None}

    def specs(self) -> list[Spec]:
        """Engines, then services, in the order of the start."""
        engines = [
            *(Spec(broker.folder.name, broker.program, start_limit_s=90) for broker in self.brokers),
            Spec("clickhouse", self.clickhouse.program),
            Spec("mosquitto", self.mosquitto.program, watched=False, before_stop=self.guard().before_stop),
        ]
        return engines + [self._service(row, 1, self.probes[row.name]) for row in services.SERVICES]

    def worker(self, name: str, number: int) -> Spec:
        """One more of a service, the `number`th, from 2 on; its probes get a port of their own."""
        row = next(row for row in services.SERVICES if row.name == name)
        return self._service(row, number, ports.free()[0])

    def _service(self, row: services.Row, number: int, probes: int) -> Spec:
        make = partial(services.program, row, self.environment(), probes, number)
        extra = {} if row.one_shot else {"metrics": f"http://{ports.LOOPBACK}:{probes}/metrics"}
        kafka = tuple(broker.folder.name for broker in self.brokers)
        after = (*row.after, *kafka) if "kafka" in row.after else row.after
        return Spec(services.name_of(row.name, number), make, after, row.one_shot, extra=extra)


def _count(data: Path, wanted: int | None) -> int:
    """How many brokers. Raises RefusedError where data of another number is there."""
    known = sum((data / _folder(node)).exists() for node in range(1, MOST_BROKERS + 1))
    count = wanted or (MOST_BROKERS if (data / "kafka.cluster").exists() else 1)
    if known and (data / "kafka.cluster").exists() != (count > 1):
        raise RefusedError(
            f"{data} holds the data of {'several brokers' if count == 1 else 'one broker'}, not of {count}: start it"
            " without --kafka-brokers, or choose another --data"
        )
    return count


def _brokers(data: Path, first: int, more: list[int], count: int) -> tuple[Kafka, ...]:
    """Brokers 1 to `count` in the folders kafka, kafka-2 …, on the ports `first` and some of `more`."""
    controllers, listeners = more[:count], [first, *more[count:]]
    several = tuple(controllers) if count > 1 else ()
    return tuple(
        Kafka(
            data / _folder(node),
            listeners[node - 1],
            controllers[node - 1],
            node=node,
            controller_ports=several,
            keys=_keys(data),
        )
        for node in range(1, count + 1)
    )


def _listed(path: Path) -> str:
    """As an item of a comma-separated setting."""
    return str(path).replace(",", "\\,")


def _keys(data: Path) -> KafkaKeys:
    return KafkaKeys(data / "keys")


def _folder(node: int) -> str:
    return "kafka" if node == 1 else f"kafka-{node}"


@dataclass(frozen=True, slots=True)
class Missing:
    """Something the machine lacks, and the command that installs it."""

    what: str
    command: str


def missing() -> Sequence[Missing]:
    """What the local platform needs and this machine lacks; empty when all is there."""
    apt = "sudo apt-get install --yes --no-install-recommends" if shutil.which("apt-get") else "install"
    found = []
    if shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin") is None:
        found.append(Missing("mosquitto (the MQTT broker)", f"{apt} mosquitto"))
    if not _java_works():
        found.append(Missing("Java 17 or later (for Kafka)", f"{apt} default-jre-headless"))
    if not any(kafka.JARS.glob("kafka_*.jar")):
        found.append(Missing("Kafka's jars", "make setup"))
    if importlib.util.find_spec("chdb") is None:
        found.append(Missing("chdb (ClickHouse's engine)", "make setup"))
    return found


def _java_works() -> bool:
    java = shutil.which("java")
    if java is None:
        return False
    printed = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = printed.partition('version "')[2].partition(".")[0].partition('"')[0]
    return version.isdecimal() and int(version) >= kafka.OLDEST_JAVA
