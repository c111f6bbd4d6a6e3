"""Apache Kafka as one or three KRaft nodes on the loopback, from the jars that `make setup` copied to .deps/kafka."""

import shutil
import socket
import subprocess
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from local.ports import LOOPBACK
from local.programs import Program, ProgramError

JARS: Final = Path(__file__).parents[2] / ".deps" / "kafka"
OLDEST_JAVA: Final = 17
_TEMPLATES: Final = Path(__file__).parent / "kafka.d"
_JVM: Final = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
)
"""A small heap and the quick compiler: ready in seconds; the page cache does the work, not the JVM."""

ARCHIVE: Final = JARS / "kafka.jsa"
"""Classes as the JVM has them after a start (made by local.engines.warm): half the time of a start. May be missing."""

_BROKERS_REQUEST: Final = bytes.fromhex("00000012 0003 0001 00000001 ffff 00000000 00000000".replace(" ", ""))


@dataclass(frozen=True, slots=True)
class Kafka:
    """One broker. `folder` holds its data; the ports may change from one start to the next.

    Of several, `node` counts from 1 and `controller_ports` are those of all, in order; the cluster's id is in a file
    beside their folders. One that lost its folder comes back empty and copies what it lacks from the others.
    """

    folder: Path
    port: int
    controller_port: int
    jvm: tuple[str, ...] = ()
    """More options of the JVM."""
    more: str = ""
    """More lines of server.properties; the last of equal names counts."""
    node: int = 1
    controller_ports: tuple[int, ...] = ()

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def program(self) -> Program:
        """Write the configuration, format the storage if it is new."""
        self._configure()
        if not (self.folder / "log" / "meta.properties").exists():
            self._format()
        return Program("kafka", self._java(*self.jvm, "kafka.Kafka", str(self._properties)), self._ready)

    @property
    def _controller_ports(self) -> tuple[int, ...]:
        return self.controller_ports or (self.controller_port,)

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _configure(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = Template((_TEMPLATES / "server.properties").read_text()).substitute(
            port=self.port,
            controller_port=self.controller_port,
            log=self.folder / "log",
            node=self.node,
            voters=",".join(f"{n}@{LOOPBACK}:{port}" for n, port in enumerate(self._controller_ports, 1)),
            replication=len(self._controller_ports),
            in_sync=max(1, len(self._controller_ports) - 1),
        )
        self._properties.write_text(text + self.more)

    def _java(self, *main: str) -> tuple[str, ...]:
        java = shutil.which("java")
        if java is None or not JARS.is_dir():
            raise ProgramError("Kafka needs a Java runtime and its jars: run `make setup`")
        logging = f"-Dlog4j2.configurationFile={_TEMPLATES / 'log4j2.properties'}"
        archive = (f"-XX:SharedArchiveFile={ARCHIVE}",) if ARCHIVE.exists() else ()
        return (java, *_JVM, *archive, logging, "-cp", f"{JARS}/*", *main)

    def _format(self) -> None:
        # formatting is not atomic: a kill in the middle must not leave a folder that looks formatted
        shutil.rmtree(self.folder / "log", ignore_errors=True)
        cluster = self._cluster()
        argv = self._java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(self._properties))
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise ProgramError(f"Kafka's storage could not be formatted:\n{done.stdout}{done.stderr}")

    def _cluster(self) -> str:
        """The cluster's id: of one broker its own; of several the one that the first to be formatted chose."""
        new = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not self.controller_ports:
            return new
        file = self.folder.parent / "kafka.cluster"
        if not file.exists():
            file.write_text(new)
        return file.read_text()

    def _ready(self) -> bool:
        """It answers a metadata request and knows of a broker, itself: it is past its start and not fenced."""
        try:
            with socket.create_connection((LOOPBACK, self.port), 0.5) as connection:
                connection.settimeout(0.5)
                connection.sendall(_BROKERS_REQUEST)
                answer = connection.recv(64)
        except OSError:
            return False
        return len(answer) >= 12 and int.from_bytes(answer[8:12], "big") > 0
