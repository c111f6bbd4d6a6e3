"""Settings of bridge-http."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from bridge.http.core.formats import Bounds
from bridge.settings import WriterSettings
from runtime.addresses import Listen
from runtime.certificates import show_file
from runtime.settings import KafkaSettings, ServiceSettings, setting


@dataclass(frozen=True)
class HttpSettings(WriterSettings, KafkaSettings, ServiceSettings):
    """Everything `python -m bridge.http` reads."""

    linger_ms: int = setting(50, doc="longest time that a row waits for its batch, milliseconds", low=1, high=5_000)
    listen: Listen = setting(
        Listen("127.0.0.1:8080"), doc="host:port for devices; port 0 chooses a free one, * is every address"
    )
    tls_cert_file: Path | None = setting(
        None, doc="certificate chain (PEM); without it devices use plain HTTP", readable=True
    )
    tls_key_file: Path | None = setting(None, doc="the key of that certificate", readable=True)
    max_body_bytes: int = setting(4 << 20, doc="longest body as sent", low=1_024, high=64 << 20)
    max_decoded_bytes: int = setting(8 << 20, doc="longest body after decompression", low=1_024, high=64 << 20)
    max_messages: int = setting(10_000, doc="most messages in one request", low=1, high=100_000)
    device_requests: int = setting(8, doc="requests of one device in flight", low=1, high=1_000)
    device_requests_per_s: float = setting(100, doc="requests of one device per second", low=0.01, high=1e6)
    device_burst_s: float = setting(10, doc="burst of one device, seconds' worth of requests", low=1, high=3_600)
    max_connections: int = setting(
        4_096,
        doc="most open connections, including TLS handshakes; further ones get 503, or are closed before TLS",
        low=1,
        high=100_000,
    )
    idle_timeout_s: float = setting(75, doc="time-out of a connection without a request, seconds", low=1, high=3_600)
    body_timeout_s: float = setting(30, doc="time-out for receiving a request, seconds", low=0.1, high=600)
    ack_timeout_s: float = setting(10, doc="longest wait for Kafka before 503", low=0.1, high=300)
    stall_s: float = setting(
        5, doc="seconds without an acknowledgement of Kafka after which requests get 503 immediately", low=0.1, high=300
    )

    def bounds(self) -> Bounds:
        return Bounds(self.max_body_bytes, self.max_decoded_bytes, self.payload_bytes, self.max_messages)

    def tls_context(self) -> ssl.SSLContext | None:
        """None without a certificate. Raises OSError when a file cannot be used."""
        if self.tls_cert_file is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.tls_cert_file, self.tls_key_file)
        show_file(self.tls_cert_file)
        return context
