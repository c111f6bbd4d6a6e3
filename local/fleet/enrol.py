"""The fleet's devices in the registry, and certificates for those that need them."""

import ssl
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from confluent_kafka import TopicPartition

from identity.authority import Authority
from identity.registry.store import Registry
from runtime.errors import RefusedError, RetryableError
from runtime.kafka import clients, topics
from runtime.settings import KafkaSettings
from schemas.control import Device, device_key
from schemas.topics import RAW

IN_BAND_TIMEOUT_S: Final = 60.0
_ANSWER_S: Final = 15.0


def register(settings: KafkaSettings, wanted: Sequence[Device], with_token: Iterable[str] = ()) -> dict[str, str]:
    """Enrol who is not enrolled yet, and wait until telemetry.raw says so in band: from then on the stream knows them.

    Returns tokens of the devices in `with_token` (of those that were enrolled already, new ones). Raises RefusedError
    when an id is taken by a device of another role or parent.
    """
    registry = Registry(settings)
    known = {name: device for name, device in registry.devices().items() if device.state == "active"}
    for device in wanted:
        found = known.get(device.id)
        if found is not None and (found.role, found.parent) != (device.role, device.parent):
            raise RefusedError(f"{device.id} is enrolled with role {found.role}, not {device.role}: remove it first")
    new = [device for device in wanted if device.id not in known]
    start = _ends(settings) if new else []
    tokens = registry.register(new) if new else {}
    renewed = [name for name in with_token if name not in tokens]
    tokens |= registry.renew(renewed) if renewed else {}
    if new:
        _await(settings, start, {device_key(device.id) for device in new})
    return tokens


def _ends(settings: KafkaSettings) -> list[TopicPartition]:
    """Where each partition of telemetry.raw ends now."""
    partitions = topics.facts(settings, RAW)[RAW].partitions
    consumer = clients.consumer(settings, clients.READER)
    try:
        found = [TopicPartition(RAW, p) for p in range(partitions)]
        return [TopicPartition(RAW, p.partition, consumer.get_watermark_offsets(p, _ANSWER_S)[1]) for p in found]
    finally:
        consumer.close()


def _await(settings: KafkaSettings, start: list[TopicPartition], keys: set[str]) -> None:
    """Read on from `start` until every one of `keys` was seen as a control record."""
    consumer = clients.consumer(settings, clients.READER)
    deadline = time.monotonic() + IN_BAND_TIMEOUT_S
    try:
        consumer.assign(start)
        while keys:
            for message in consumer.consume(1000, 0.2):
                clients.check_fatal(message.error())
                for name, value in message.headers() or ():
                    if name == "key":
                        keys.discard(value.decode())
            if time.monotonic() > deadline:
                raise RetryableError(f"{len(keys)} devices are registered, but the relay did not say so: does it run?")
    finally:
        consumer.close()


def tls_contexts(ca_file: Path, folder: Path, ids: Sequence[str]) -> dict[str, ssl.SSLContext]:
    """A TLS context with a certificate of its own for each device; certificates are kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = Authority.open(ca_file.parent)
    return {name: _context(authority, ca_file, folder, name) for name in ids}


def _context(authority: Authority, ca_file: Path, folder: Path, name: str) -> ssl.SSLContext:
    file = folder / f"{name}.pem"
    if not file.exists():
        certificate, key = authority.issue_client(name)
        partial = file.with_suffix(".new")
        partial.touch(0o600)
        partial.write_bytes(certificate + key)
        partial.rename(file)
    context = ssl.create_default_context(cafile=ca_file)
    context.load_cert_chain(file)
    return context
