"""The table of Millrace's own services on one machine: what each is called, started with and waits for."""

import http.client
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from local.ports import LOOPBACK
from local.programs import Program


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `settings` names what the service gets from the platform's environment."""

    name: str
    module: str
    after: tuple[str, ...]
    settings: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    one_shot: bool = False


_CLICKHOUSE: Final = ("CLICKHOUSE_URL", "CLICKHOUSE_PASSWORD_FILE")
_MQTT: Final = ("MQTT_URL", "MQTT_USER", "MQTT_PASSWORD_FILE")

_INIT: Final = (*_CLICKHOUSE, "STARTING_POLICY", "REPLICATION")

SERVICES: Final = (
    Row(
        "init",
        "cli.main",
        ("kafka", "clickhouse"),
        _INIT,
        ("init",),
        one_shot=True,
    ),
    Row("relay", "control.relay", ("init",)),
    Row("bridge", "bridge.mqtt", ("init", "mosquitto"), _MQTT),
    Row("access", "streams.access", ("init",)),
    Row("aggregate", "streams.aggregate", ("init",)),
    Row("anomaly", "streams.anomaly", ("init",)),
    Row("presence", "streams.presence", ("init",)),
    Row("sink", "sinks", ("init",), _CLICKHOUSE),
    Row("bridge-http", "bridge.http", ("init",), ("LISTEN",)),
    Row(
        "watch", "monitoring.watch", ("init",), (*_MQTT, *_CLICKHOUSE, "WATCH_DISKS", "WATCH_TLS", "WATCH_CERTIFICATES")
    ),
)
"""In the order of the start; the stop goes backwards, so what brings messages in ends before what stores them."""


SCALABLE: Final = ("access", "aggregate", "anomaly", "presence", "sink")
"""Services of which several share the partitions."""


def name_of(name: str, number: int) -> str:
    """access, access-2, access-3 …"""
    return name if number == 1 else f"{name}-{number}"


def program(row: Row, environment: Mapping[str, str], probes_port: int, number: int = 1) -> Program:
    """How to run a service, the `number`th of its kind. `environment` has names without the prefix MILLRACE_."""
    wanted = ("KAFKA_BOOTSTRAP", "KAFKA_SECURITY", *row.settings)
    own = {f"MILLRACE_{name}": environment[name] for name in wanted if name in environment}
    own |= {"MILLRACE_HTTP_BIND": f"{LOOPBACK}:{probes_port}", "PYTHONUNBUFFERED": "1"}
    own["MILLRACE_INSTANCE"] = str(number - 1)  # 0 for the first
    return Program(
        name_of(row.name, number), (sys.executable, "-m", row.module, *row.arguments), is_ready(probes_port), own
    )


def is_ready(port: int) -> Callable[[], bool]:
    """Asks /health/ready of the service on this port."""

    def ask() -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=1.0)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ask
