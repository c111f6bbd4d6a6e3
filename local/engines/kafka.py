"""Apache Kafka as one or three KRaft nodes on the loopback, from the jars that `make setup` copied to .deps/kafka."""

import errno
import os
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Template
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from local import files
from local.engines import kafka_probe
from local.engines.kafka_keys import CONTROLLER, MECHANISM, USER, KafkaKeys
from local.engines.kafka_probe import Login
from local.ports import LOOPBACK
from local.programs import PRIVATE_UMASK, Program, ProgramError

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

_PROPERTIES: Final = "server.properties"
_LOCALE: Final = {"LC_ALL": "C.UTF-8"}
"""In other locales Java cannot open files below a folder with an umlaut."""
_ADMIT_S: Final = 10.0
ARCHIVE: Final = JARS / "kafka.jsa"
"""Classes as the JVM has them after a start (made by local.engines.warm): half the time of a start. May be missing."""


@dataclass(frozen=True, slots=True)
class Kafka:
    """One broker. `folder` holds its data; the ports may change from one start to the next. With `keys` it speaks only
    with who has the password; without, as some tests want it, with everybody on this machine. It runs in its folder,
    and its configuration names no other: Java reads that as Latin-1, and splits paths at commas.

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
    keys: KafkaKeys | None = None

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def program(self) -> Program:
        """Write the configuration, format the storage if it is new."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        is_new = not (self.folder / "log" / "meta.properties").exists()
        if self.keys is not None:
            self.keys.ensure()
            if is_new and not self._cluster_file.exists():
                self.keys.admitted()
        self._configure()
        if is_new:
            self._format()
        argv = self._java(*self.jvm, "kafka.Kafka", _PROPERTIES)
        return Program("kafka", argv, partial(self._ready, self._login()), _LOCALE, cwd=self.folder)

    @property
    def _controller_ports(self) -> tuple[int, ...]:
        return self.controller_ports or (self.controller_port,)

    def _configure(self) -> None:
        text = Template((_TEMPLATES / "server.properties").read_text()).substitute(
            port=self.port,
            controller_port=self.controller_port,
            node=self.node,
            voters=",".join(f"{n}@{LOOPBACK}:{port}" for n, port in enumerate(self._controller_ports, 1)),
            replication=len(self._controller_ports),
            in_sync=max(1, len(self._controller_ports) - 1),
        )
        if self.keys is not None:
            text += self.keys.lines(self.port, self.controller_port)
        files.replace(self.folder / _PROPERTIES, (text + self.more).encode())

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
        words = ["format", f"--cluster-id={self._cluster()}", "-c", _PROPERTIES]
        words += ["--add-scram", self.keys.scram()] if self.keys is not None else []
        arguments = self.folder / "format.arguments"  # anybody sees a command line, and this has a password
        files.replace(arguments, "\n".join(words).encode())
        try:
            argv = self._java("kafka.tools.StorageTool", f"@{arguments.name}")
            done = subprocess.run(
                argv,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
                cwd=self.folder,
                env=os.environ | _LOCALE,
                umask=PRIVATE_UMASK,
            )
        finally:
            arguments.unlink()
        if done.returncode:
            text = f"Kafka's storage could not be formatted:\n{done.stdout}{done.stderr}"
            raise OSError(errno.ENOSPC, text) if "No space left on device" in text else ProgramError(text)

    def _cluster(self) -> str:
        """The cluster's id: of one broker its own; of several the one that the first to be formatted chose."""
        new = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not self.controller_ports:
            return new
        if not self._cluster_file.exists():
            files.replace(self._cluster_file, new.encode())
        return self._cluster_file.read_text()

    @property
    def _cluster_file(self) -> Path:
        return self.folder.parent / "kafka.cluster"

    def _login(self) -> Login | None:
        if self.keys is None:
            return None
        if self.keys.is_admitted:
            return Login(MECHANISM, USER, self.keys.password)
        return Login("PLAIN", CONTROLLER, self.keys.controller_password)

    def _ready(self, login: Login | None) -> bool:
        """It answers a metadata request and knows of a broker, itself: it is past its start and not fenced."""
        if kafka_probe.brokers(LOOPBACK, self.port, login) <= 0:
            return False
        return self.keys is None or self.keys.is_admitted or self._admit(self.keys)

    def _admit(self, keys: KafkaKeys) -> bool:
        """Create the user in a cluster that was formatted without passwords. Whether that is done."""
        own = {"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN", "log_level": 0}
        own |= {"sasl.username": CONTROLLER, "sasl.password": keys.controller_password}
        admin = AdminClient({"bootstrap.servers": self.bootstrap} | own)
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        wanted = UserScramCredentialUpsertion(USER, info, keys.password.encode())
        try:
            for future in admin.alter_user_scram_credentials([wanted], request_timeout=_ADMIT_S).values():
                future.result(_ADMIT_S)
        except (KafkaException, TimeoutError):
            return False
        keys.admitted()
        return True
