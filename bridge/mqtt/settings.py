"""Settings of the MQTT bridge."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bridge.settings import WriterSettings
from runtime.certificates import show_file
from runtime.settings import KafkaSettings, ServiceSettings, setting
from schemas.topics import UPLINK_FILTER


class MqttUrl:
    """`unix:///path`, `mqtt://host[:1883]` or `mqtts://host[:8883]`. Raises ValueError on anything else."""

    def __init__(self, text: str) -> None:
        parts = urlsplit(text)
        self.text = text
        self.path = unquote(parts.path) if parts.scheme == "unix" else ""
        self.tls = parts.scheme == "mqtts"
        self.host = parts.hostname or ""
        self.port = parts.port or (8883 if self.tls else 1883)
        if parts.scheme not in ("unix", "mqtt", "mqtts") or not (self.path or self.host):
            raise ValueError("expected unix:///path, mqtt://host:port or mqtts://host:port")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class MqttSettings(WriterSettings, KafkaSettings, ServiceSettings):
    """Everything `python -m bridge.mqtt` reads."""

    mqtt_url: MqttUrl = setting(
        MqttUrl("mqtt://127.0.0.1:1883"), doc="the broker: unix:///path, mqtt://host:port or mqtts://host:port"
    )
    mqtt_ca_file: Path | None = setting(None, doc="certificates that sign the broker's (mqtts)", readable=True)
    mqtt_cert_file: Path | None = setting(None, doc="the bridge's own certificate (mqtts)", readable=True)
    mqtt_key_file: Path | None = setting(None, doc="the key of that certificate (mqtts)", readable=True)
    mqtt_user: str = setting("", doc="user name, if the broker requires one")
    mqtt_password_file: Path | None = setting(None, doc="file that holds the password of mqtt_user", readable=True)
    mqtt_filter: str = setting(
        UPLINK_FILTER,
        doc="topic filter; $share/group/d/# only on clusters that send all messages of a client to one subscriber",
    )
    mqtt_log_topic: str = setting(
        "$SYS/broker/log/N",
        doc="where mosquitto publishes connects and disconnects (log_dest topic); empty on brokers that do not",
    )
    session_expiry_s: int = setting(
        30 * 86_400, doc="how long the broker keeps the session while the bridge is down", low=60, high=0xFFFFFFFF
    )
    receive_maximum: int = setting(20_000, doc="QoS 1 messages in flight from the broker", low=1, high=65_535)
    keepalive_s: int = setting(30, doc="MQTT keep alive", low=5, high=3_600)
    gather_ms: float = setting(2.0, doc="pause after a small read: fewer, larger reads; 0 for none", low=0, high=100)

    @property
    def client_id(self) -> str:
        """Fixed, because the session hangs on it; with dots, so that no device can have it."""
        return f"millrace.bridge.{self.instance}"

    def password(self) -> str | None:
        """Raises OSError when the file cannot be read."""
        return None if self.mqtt_password_file is None else self.mqtt_password_file.read_text().strip()

    def tls_context(self) -> ssl.SSLContext | None:
        """For mqtts the context with both certificates. Raises OSError when a file cannot be used."""
        if not self.mqtt_url.tls:
            return None
        context = ssl.create_default_context(cafile=self.mqtt_ca_file)
        if self.mqtt_cert_file is not None:
            context.load_cert_chain(self.mqtt_cert_file, self.mqtt_key_file)
            show_file(self.mqtt_cert_file)
        return context
