"""Who may speak to the local Kafka: one user with a password, made at the first start.

Why it is SCRAM, and one user: docs/adr/0024-local-kafka-asks-for-a-password.md
"""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local import files

MECHANISM: Final = "SCRAM-SHA-512"
"""A password that does not leave the client: whoever takes Kafka's port while it is down learns nothing."""
USER: Final = "millrace"
CONTROLLER: Final = "controller"

_CLIENTS: Final = """\
# Kafka's user of this platform, for librdkafka: MILLRACE_KAFKA_SECURITY
security.protocol=sasl_plaintext
sasl.mechanism={mechanism}
sasl.username={user}
sasl.password={password}
"""
_LISTENERS: Final = """
# ---- nobody without a password
listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://127.0.0.1:{port}
inter.broker.listener.name=CLIENTS
listener.security.protocol.map=CLIENTS:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT
sasl.enabled.mechanisms={enabled}
sasl.mechanism.inter.broker.protocol={between}
listener.name.clients.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
  username="{user}" password="{password}";
# SCRAM's passwords are in the metadata, which a controller has to fetch first
sasl.mechanism.controller.protocol=PLAIN
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config={plain}
"""
_PLAIN: Final = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required"
    ' username="{user}" password="{password}" user_{user}="{password}";'
)


@dataclass(frozen=True, slots=True)
class KafkaKeys:
    """The passwords of one cluster, in `folder`: of clients and brokers, and of the controllers among themselves."""

    folder: Path

    @property
    def clients(self) -> Path:
        """Properties for librdkafka."""
        return self.folder / "kafka.properties"

    @property
    def _admitted(self) -> Path:
        return self.folder / "kafka.admitted"

    def ensure(self) -> None:
        """Make the passwords that are missing."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._controller.exists():
            files.replace(self._controller, secrets.token_urlsafe(32).encode())
        if not self.clients.exists():
            text = _CLIENTS.format(mechanism=MECHANISM, user=USER, password=secrets.token_urlsafe(32))
            files.replace(self.clients, text.encode())

    @property
    def is_admitted(self) -> bool:
        """Whether the cluster's metadata know the user. Those that were made without passwords do not."""
        return self._admitted.exists()

    def admitted(self) -> None:
        """From now on the cluster's metadata know the user."""
        files.replace(self._admitted, b"")

    @property
    def password(self) -> str:
        lines = self.clients.read_text().splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith("sasl.password="))

    @property
    def _controller(self) -> Path:
        return self.folder / "kafka.controller"

    @property
    def controller_password(self) -> str:
        return self._controller.read_text()

    def scram(self) -> str:
        """The user, as `kafka-storage format --add-scram` takes it."""
        return f"{MECHANISM}=[name={USER},password={self.password}]"

    def lines(self, port: int, controller_port: int) -> str:
        """Lines of server.properties. Until the user is admitted, brokers speak to each other as controllers do, and
        so does whoever admits it."""
        plain = _PLAIN.format(user=CONTROLLER, password=self.controller_password)
        text = _LISTENERS.format(
            port=port,
            controller_port=controller_port,
            enabled=MECHANISM if self.is_admitted else f"{MECHANISM},PLAIN",
            between=MECHANISM if self.is_admitted else "PLAIN",
            user=USER,
            password=self.password,
            plain=plain,
        )
        return text if self.is_admitted else f"{text}listener.name.clients.plain.sasl.jaas.config={plain}\n"
