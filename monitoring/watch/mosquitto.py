"""What mosquitto tells of itself below $SYS/broker: its queue above all. A few bytes of MQTT 3.1.1, one connection.

mosquitto publishes a figure when it has changed, every `sys_interval` (10 s), and keeps it: a new subscriber gets all.
"""

import math
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from prometheus_client import Gauge

from monitoring.watch import metrics
from monitoring.watch.settings import WatchSettings

_TIMEOUT_S: Final = 5.0
FIGURES: Final[dict[str, Gauge]] = {
    "$SYS/broker/store/messages/count": metrics.STORED,
    "$SYS/broker/store/messages/bytes": metrics.STORED_BYTES,
    "$SYS/broker/heap/current": metrics.HEAP,
    "$SYS/broker/clients/connected": metrics.CLIENTS,
    "$SYS/broker/publish/messages/received": metrics.RECEIVED,
    "$SYS/broker/publish/messages/sent": metrics.SENT,
    "$SYS/broker/publish/messages/dropped": metrics.DROPPED,
}
for _gauge in FIGURES.values():  # until it is told: not known, which is not none
    _gauge.set(math.nan)
_PATIENCE_S: Final = 30.0
"""Three times `sys_interval`: after its start mosquitto says nothing for so long."""
_SILENT: Final = "the broker tells the watch nothing: its access list must let it read $SYS, and sys_interval not be 0"
_CONNACK, _PUBLISH, _SUBACK, _PINGRESP = 2, 3, 9, 13
_PINGREQ: Final = b"\xc0\x00"


class Mosquitto:
    """Keeps one connection and makes it anew when it broke. Raises OSError while the broker does not answer."""

    def __init__(self, settings: WatchSettings) -> None:
        self._settings = settings
        self._socket: socket.socket | None = None
        self._buffer = bytearray()
        self._told = False
        self._since_s = 0.0

    def look(self) -> None:
        """Take what came since the last look, up to the answer to a ping: then the broker lives, and all was read."""
        try:
            connection = self._socket or self._connect()
            connection.sendall(_PINGREQ)
            for kind, body in self._packets(connection):
                if kind == _PUBLISH:
                    self._show(body)
                elif kind == _PINGRESP:
                    self._check_told()
                    return
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._buffer.clear()

    def _connect(self) -> socket.socket:
        self._socket = connection = dial(self._settings)
        self._since_s = time.monotonic()
        connection.sendall(connect_packet(f"millrace.watch.{self._settings.instance}", *self._credentials()))
        kind, body = next(self._packets(connection))
        if kind != _CONNACK or body[1:] != b"\x00":
            raise OSError(f"the broker refuses the watch: {body.hex()}; check its certificate or password")
        topics = b"".join(_text(topic.encode()) + b"\x00" for topic in FIGURES)
        connection.sendall(_packet(0x82, b"\x00\x01" + topics))
        for kind, body in self._packets(connection):
            if kind == _PUBLISH:
                self._show(body)
            elif kind == _SUBACK:
                if 0x80 in body[2:]:
                    raise OSError(_SILENT)
                break
        return connection

    def _show(self, body: bytes) -> None:
        self._told = show(body) or self._told

    def _check_told(self) -> None:
        """A broker whose access list forbids it grants the subscription all the same, and then says nothing."""
        if not self._told and time.monotonic() - self._since_s > _PATIENCE_S:
            raise OSError(_SILENT)

    def _credentials(self) -> tuple[str, str]:
        file = self._settings.mqtt_password_file
        return self._settings.mqtt_user, file.read_text().strip() if file else ""

    def _packets(self, connection: socket.socket) -> Iterator[tuple[int, bytes]]:
        """(kind, body) of packets; for ever. Raises OSError at the end of the connection or of patience."""
        while True:
            size = packet_size(self._buffer)
            if size is None:
                data = connection.recv(65_536)
                if not data:
                    raise ConnectionResetError("the broker closed the connection")
                self._buffer += data
                continue
            head, length = size
            packet = bytes(self._buffer[: head + length])
            del self._buffer[: head + length]
            yield packet[0] >> 4, packet[head:]


def dial(settings: WatchSettings) -> socket.socket:
    """A connection to `mqtt_url`. Raises OSError; ValueError on an URL of another kind."""
    url = urlsplit(settings.mqtt_url)
    if url.scheme == "unix" and url.path:
        local = socket.socket(socket.AF_UNIX)
        local.settimeout(_TIMEOUT_S)
        local.connect(url.path)
        return local
    if url.scheme not in ("mqtt", "mqtts") or not url.hostname:
        raise ValueError(
            f"MILLRACE_MQTT_URL={settings.mqtt_url!r}: expected unix:///path, mqtt:// or mqtts://host:port"
        )
    plain = socket.create_connection((url.hostname, url.port or (8883 if url.scheme == "mqtts" else 1883)), _TIMEOUT_S)
    if url.scheme == "mqtt":
        return plain
    context = ssl.create_default_context(cafile=settings.mqtt_ca_file)
    if settings.mqtt_cert_file is not None:
        context.load_cert_chain(settings.mqtt_cert_file, settings.mqtt_key_file)
    return context.wrap_socket(plain, server_hostname=url.hostname)


def show(body: bytes) -> bool:
    """Set the gauge of a PUBLISH at QoS 0. Whether there is one."""
    end = 2 + int.from_bytes(body[:2], "big")
    gauge = FIGURES.get(body[2:end].decode(errors="replace"))
    if gauge is not None:
        gauge.set(float(body[end:]))
    return gauge is not None


def packet_size(buffer: bytes | bytearray) -> tuple[int, int] | None:
    """(bytes before the body, bytes of the body) of the first packet; None while it is not there whole."""
    length = 0
    for place in range(1, min(len(buffer), 5)):
        length |= (buffer[place] & 0x7F) << 7 * (place - 1)
        if buffer[place] < 0x80:
            return (place + 1, length) if len(buffer) >= place + 1 + length else None
    return None


def connect_packet(client: str, user: str, password: str) -> bytes:
    """CONNECT with a clean session and no keep alive: the watch itself asks often enough."""
    flags = 0x02 | (0x80 if user else 0) | (0x40 if password else 0)
    body = b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x00" + _text(client.encode())
    return _packet(0x10, body + b"".join(_text(word.encode()) for word in (user, password) if word))


def _packet(kind: int, body: bytes) -> bytes:
    length = len(body)
    out = bytearray([kind])
    while True:
        length, digit = divmod(length, 128)
        out.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(out) + body


def _text(word: bytes) -> bytes:
    return len(word).to_bytes(2, "big") + word
