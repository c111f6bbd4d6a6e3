"""What mosquitto publishes of itself below $SYS/broker: its queue above all. MQTT 3.1.1 on one connection.

mosquitto publishes a figure when it has changed, every `sys_interval` (10 s), and keeps it: a new subscriber gets all.
"""

import math
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote, urlsplit

from prometheus_client import Gauge

from monitoring.watch import metrics
from monitoring.watch.settings import WatchSettings
from runtime.mqtt import (
    V311,
    Connack,
    Connect,
    MalformedPacketError,
    Packet,
    Pingresp,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    decode,
    encode,
    encoding,
    frame,
)

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
for _gauge in FIGURES.values():  # until the broker publishes it: not known, which is not 0
    _gauge.set(math.nan)
_PATIENCE_S: Final = 30.0
"""Three times `sys_interval`: after its start mosquitto says nothing for so long."""
_SILENT: Final = (
    "the broker publishes no $SYS topics to the watch: allow it to read $SYS in the access list, and set sys_interval"
    " above 0"
)
_SUBSCRIBE: Final = Subscribe(1, tuple(Subscription(topic) for topic in FIGURES))


class Mosquitto:
    """Keeps one connection and opens another when it broke. Raises OSError while the broker does not answer."""

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
            connection.sendall(encoding.PINGREQ)
            for packet in self._packets(connection):
                if isinstance(packet, Publish):
                    self._show(packet)
                elif isinstance(packet, Pingresp):
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
        connection.sendall(encode(self._hello(), V311))
        answer = next(self._packets(connection))
        if not isinstance(answer, Connack) or answer.reason:
            raise OSError(
                f"the broker refused the connection of the watch: {answer}; check its certificate or password"
            )
        connection.sendall(encode(_SUBSCRIBE, V311))
        for packet in self._packets(connection):
            if isinstance(packet, Publish):
                self._show(packet)
            elif isinstance(packet, Suback):
                if 0x80 in packet.reasons:
                    raise OSError(_SILENT)
                break
        return connection

    def _show(self, packet: Publish) -> None:
        self._told = show(packet) or self._told

    def _check_told(self) -> None:
        """A broker whose access list forbids it grants the subscription all the same, and then says nothing."""
        if not self._told and time.monotonic() - self._since_s > _PATIENCE_S:
            raise OSError(_SILENT)

    def _hello(self) -> Connect:
        """A clean session and no keep alive: the watch itself asks often enough."""
        user, file = self._settings.mqtt_user, self._settings.mqtt_password_file
        return Connect(
            f"millrace.watch.{self._settings.instance}",
            username=user or None,
            password=file.read_bytes().strip() if file else None,
            version=V311,
        )

    def _packets(self, connection: socket.socket) -> Iterator[Packet]:
        """Packets without end. Raises OSError when the connection ends, times out or carries something else."""
        while True:
            try:
                borders = frame(self._buffer)
                if borders is not None and borders[1] <= len(self._buffer):
                    start, end = borders
                    first, body = self._buffer[0], bytes(self._buffer[start:end])
                    del self._buffer[:end]
                    yield decode(first, body, V311)
                    continue
            except MalformedPacketError as error:
                raise OSError(f"the broker sent invalid MQTT: {error}") from None
            data = connection.recv(65_536)
            if not data:
                raise ConnectionResetError("the broker closed the connection")
            self._buffer += data


def dial(settings: WatchSettings) -> socket.socket:
    """A connection to `mqtt_url`. Raises OSError; ValueError on an URL of another kind."""
    url = urlsplit(settings.mqtt_url)
    if url.scheme == "unix" and url.path:
        local = socket.socket(socket.AF_UNIX)
        local.settimeout(_TIMEOUT_S)
        local.connect(unquote(url.path))
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


def show(packet: Publish) -> bool:
    """Set the gauge of a PUBLISH. Whether there is one."""
    gauge = FIGURES.get(packet.topic.decode())
    if gauge is not None:
        gauge.set(float(packet.payload))
    return gauge is not None
