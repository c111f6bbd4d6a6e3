"""Settings of the watch."""

from dataclasses import dataclass
from pathlib import Path

from runtime.addresses import Address
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.settings import KafkaSettings, ServiceSettings, setting


class Disk:
    """`name=path`. Raises ValueError on anything else."""

    def __init__(self, text: str) -> None:
        self.name, equals, path = text.partition("=")
        self.path = Path(path)
        if not (self.name and equals and path):
            raise ValueError("expected name=path")


@dataclass(frozen=True)
class WatchSettings(ClickHouseSettings, KafkaSettings, ServiceSettings):
    """Everything `python -m monitoring.watch` reads."""

    mqtt_url: str = setting(
        "mqtt://127.0.0.1:1883", doc="mosquitto: unix:///path, mqtt://host:port or mqtts://host:port; its $SYS is read"
    )
    mqtt_ca_file: Path | None = setting(None, doc="certificates that sign the broker's (mqtts)", readable=True)
    mqtt_cert_file: Path | None = setting(None, doc="the watch's own certificate (mqtts)", readable=True)
    mqtt_key_file: Path | None = setting(None, doc="the key of that certificate (mqtts)", readable=True)
    mqtt_user: str = setting("", doc="user name, if the broker requires one")
    mqtt_password_file: Path | None = setting(None, doc="file that holds the password of mqtt_user", readable=True)
    watch_disks: tuple[Disk, ...] = setting((), doc="name=path, comma-separated: a folder on each disk to monitor")
    watch_tls: tuple[Address, ...] = setting(
        (), doc="host:port, comma-separated: servers whose certificates are checked"
    )
    watch_certificates: tuple[Path, ...] = setting((), doc="files of certificates (PEM), comma-separated")
    watch_every_s: float = setting(10.0, doc="seconds between checks of engines and disks", low=0.1, high=3_600)
    watch_ledger_every_s: float = setting(
        30.0, doc="seconds between checks of the ledger, devices and incidents", low=0.1, high=3_600
    )
    watch_certificates_every_s: float = setting(
        3_600.0, doc="seconds between checks of certificates", low=1, high=86_400
    )
