"""Real servers for tests: started once, killable, restartable on the same data and the same ports."""

from pathlib import Path
from typing import Generic, Protocol, TypeVar

from local import programs
from local.engines.clickhouse import ClickHouse
from local.engines.kafka import Kafka
from local.engines.mosquitto import Mosquitto
from local.ports import LOOPBACK, free

BRIDGE_CLIENT = "millrace.bridge.0"


class Engine(Protocol):
    @property
    def folder(self) -> Path: ...

    def program(self) -> programs.Program: ...


E = TypeVar("E", bound=Engine)


class Server(Generic[E]):
    """An engine and its process. `folder` also holds its log."""

    def __init__(self, engine: E) -> None:
        self.engine = engine
        self.process: programs.Process | None = None

    def start(self) -> None:
        log = self.engine.folder.with_suffix(".log")
        self.process = programs.launch(self.engine.program(), log)

    def stop(self) -> None:
        """As an operator would: SIGTERM, and wait."""
        if self.process is not None:
            self.process.stop()
            self.process = None

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process = None


class KafkaServer(Server[Kafka]):
    def __init__(self, folder: Path) -> None:
        super().__init__(Kafka(folder / "kafka", *free(2)))

    @property
    def bootstrap(self) -> str:
        return self.engine.bootstrap


class MosquittoServer(Server[Mosquitto]):
    """`port` takes devices without TLS: the client id is the identity. The bridge's session `bridge_client` exists."""

    def __init__(self, folder: Path) -> None:
        plain, tls = free(2)
        super().__init__(Mosquitto(folder / "mosquitto", folder / "authority", tls, plain, BRIDGE_CLIENT))
        self.port = plain
        self.tls_port = tls
        self.url = f"mqtt://{LOOPBACK}:{plain}"
        self.tls_url = f"mqtts://{LOOPBACK}:{tls}"
        self.authority = folder / "authority"
        self.bridge_url = self.engine.bridge_url
        self.bridge_user = "millrace_bridge"
        self.bridge_client = BRIDGE_CLIENT

    @property
    def bridge_password(self) -> str:
        return self.engine.bridge_password_file.read_text()

    @property
    def bridge_password_file(self) -> Path:
        return self.engine.bridge_password_file


class ClickHouseServer(Server[ClickHouse]):
    def __init__(self, folder: Path) -> None:
        super().__init__(ClickHouse(folder / "clickhouse", free()[0]))
        self.host = LOOPBACK
        self.port = self.engine.port
        self.url = self.engine.url
        self.user = "millrace"
        self.password_file = self.engine.password_file

    @property
    def password(self) -> str:
        return self.password_file.read_text().strip()

    @property
    def analyst_password(self) -> str:
        return self.engine.analyst_password_file.read_text().strip()
