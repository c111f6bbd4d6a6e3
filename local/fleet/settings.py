"""Settings of the fleet: where devices connect, and where they are registered. `millrace up` writes them."""

from dataclasses import dataclass
from pathlib import Path

from runtime.settings import KafkaSettings, setting


@dataclass(frozen=True)
class FleetSettings(KafkaSettings):
    """Everything the fleet needs to know of the platform."""

    device_mqtt_url: str | None = setting(None, doc="mqtt://host:port without TLS, on a loopback only")
    device_mqtts_url: str | None = setting(None, doc="mqtts://host:port for devices with certificates")
    device_http_url: str | None = setting(None, doc="http(s)://host:port for devices with tokens")
    ca_file: Path | None = setting(None, doc="certificate of the device authority; its key beside it signs new devices")
