"""confluent-kafka clients configured once: idempotent producers, consumers that never skip and never commit alone."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient

from runtime.certificates import show_file
from runtime.errors import FatalError
from runtime.settings import KafkaSettings

READER: Final = "millrace-reader"
"""Group of consumers that choose their partitions themselves and commit nothing."""


def common(settings: KafkaSettings) -> dict[str, Any]:
    """Properties of every client; the security file's lines override."""
    found = {"bootstrap.servers": settings.kafka_bootstrap, "log_level": 3} | _properties(settings.kafka_security)
    if "ssl.certificate.location" in found:
        show_file(Path(str(found["ssl.certificate.location"])))
    return found


def _properties(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    lines = (line.strip() for line in file.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def producer(settings: KafkaSettings, more: Mapping[str, Any] | None = None) -> Producer:
    """An idempotent producer that retries without limit: an error in a delivery report is fatal."""
    return Producer(
        common(settings)
        | {
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": 0,
            "linger.ms": 0,
            "compression.type": "lz4",
            "message.max.bytes": 16 << 20,
        }
        | dict(more or {})
    )


def consumer(
    settings: KafkaSettings,
    group: str,
    on_error: Callable[[KafkaError], None] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Consumer:
    """A consumer that commits only explicitly, and fails where retention deleted the next record."""
    return Consumer(
        common(settings)
        | {
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 100,
            "fetch.message.max.bytes": 16 << 20,
        }
        # closed while it still logs in to a group's coordinator, which it never needs, it would print a failure
        | ({"log_level": 2} if group == READER else {})
        | ({"error_cb": on_error} if on_error else {})
        | dict(more or {})
    )


def admin(settings: KafkaSettings) -> AdminClient:
    return AdminClient(common(settings))


def check_fatal(error: KafkaError | None) -> None:
    """Raise FatalError for an error that the client does not recover from by itself."""
    if error is not None and (error.fatal() or not error.retriable()):
        raise FatalError(f"Kafka: {error.name()}: {error.str()}")
