"""What a message costs bridge-http: CPU of the real service process, acknowledged after a real Kafka.

Devices send NDJSON with Millrace-Boot and Millrace-Seq over connections that are kept alive; one message has two
metrics. All of the process is counted: aiohttp, checks, batching, Arrow, the Kafka client's threads, metrics.
"""

import asyncio
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure, cpu_of_s, median_of
from identity.registry.store import DeviceRegistry
from local.engines.kafka import Kafka
from local.ports import LOOPBACK, free
from local.programs import Process, Program, launch
from runtime.kafka import topics
from runtime.settings import KafkaSettings
from schemas.control import Device

PARTITIONS: Final = 4
CONNECTIONS: Final = 32
RUNS: Final = 5
MESSAGES: Final = 60_000
"""Of one run with 100 messages a request."""
SINGLE_MESSAGES: Final = 4_000
LINE: Final = b'{"temperature":21.53,"humidity":40.2}\n'


@dataclass(frozen=True)
class Target:
    port: int
    pid: int
    tokens: dict[str, str]


def figures() -> Iterator[Figure]:
    """http_1_us and http_100_us, CPU µs a message."""
    with _target() as target:
        single_us = _cost_us(target, 1, SINGLE_MESSAGES)
        many_us = _cost_us(target, 100, MESSAGES)
    yield Figure("http_1_us", single_us, "us")
    yield Figure("http_100_us", many_us, "us", "one message a request", single_us)


def _cost_us(target: Target, messages: int, total: int) -> float:
    asyncio.run(_load(target, messages, total // 4))
    return median_of(RUNS, lambda: _run_us(target, messages, total))


def _run_us(target: Target, messages: int, total: int) -> float:
    before_s = cpu_of_s(target.pid)
    sent = asyncio.run(_load(target, messages, total))
    return (cpu_of_s(target.pid) - before_s) / sent * 1e6


async def _load(target: Target, messages: int, total: int) -> int:
    """Send `total` messages over all connections at once; returns how many were acknowledged."""
    requests = total // messages // CONNECTIONS
    tasks = [_device(target, name, token, messages, requests) for name, token in target.tokens.items()]
    return sum(await asyncio.gather(*tasks))


async def _device(target: Target, name: str, token: str, messages: int, requests: int) -> int:
    reader, writer = await asyncio.open_connection(LOOPBACK, target.port)
    body = LINE * messages
    head = (
        f"POST /v1/devices/{name}/telemetry/climate HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/x-ndjson\r\nContent-Length: {len(body)}\r\nMillrace-Boot: 1\r\nMillrace-Seq: "
    ).encode()
    for number in range(requests):
        writer.write(b"%s%d\r\n\r\n%s" % (head, number * messages, body))
        answer = await reader.readuntil(b"}")
        if not answer.startswith(b"HTTP/1.1 202"):
            raise RuntimeError(f"not acknowledged: {answer!r}")
    writer.close()
    return requests * messages


@contextmanager
def _target() -> Iterator[Target]:
    """Kafka and bridge-http as an operator starts them, with a device for each connection."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Kafka(Path(folder) / "kafka", *free(2))
        kafka = launch(engine.program(), Path(folder) / "kafka.log")
        try:
            settings = KafkaSettings(kafka_bootstrap=engine.bootstrap)
            topics.ensure(settings, topics.plans(PARTITIONS, 1), 1)
            tokens = DeviceRegistry(settings).register([Device(f"bench-{i}", "meter") for i in range(CONNECTIONS)])
            with _service(settings, Path(folder)) as (port, process):
                yield Target(port, process.pid, tokens)
        finally:
            kafka.kill()


@contextmanager
def _service(settings: KafkaSettings, folder: Path) -> Iterator[tuple[int, Process]]:
    port, probes = free(2)
    environment = {
        "MILLRACE_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "MILLRACE_LISTEN": f"{LOOPBACK}:{port}",
        "MILLRACE_HTTP_BIND": f"{LOOPBACK}:{probes}",
        "MILLRACE_DEVICE_REQUESTS_PER_S": "1000000",
    }
    argv = (sys.executable, "-m", "bridge.http")
    process = launch(Program("bridge-http", argv, lambda: _ready(probes), environment), folder / "http.log")
    try:
        yield port, process
    finally:
        process.kill()


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/health/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
