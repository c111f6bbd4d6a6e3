"""gmqtt with PUBLISH taken straight from the socket's buffer. The one module that knows gmqtt's private names.

gmqtt 0.8 acknowledges before its handler ran, or one coroutine a message at a time; neither can wait for Kafka at this
rate. So the protocol's `data_received` takes PUBLISH packets itself, gives everything else to gmqtt, and sends the
PUBACKs of a whole group when Kafka holds it. The reason code is always 0: from 0x80 on MQTT 5 would drop the message.

Every override says what gmqtt 0.8.0, the pinned version, does in its place. Before moving the pin read these places
again and run tests/bridge/test_protocol.py and test_mqtt.py, which cover what is relied on: connect, reconnect, split
packets, keep alive while paused. Decoding follows runtime/mqtt; it is written out here because of what a message costs.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from gmqtt import Client
from gmqtt.mqtt.connection import MQTTConnection
from gmqtt.mqtt.constants import MQTTv50
from gmqtt.mqtt.package import Package
from gmqtt.mqtt.protocol import MQTTProtocol

from bridge.core.rows import Properties
from bridge.mqtt import metrics
from bridge.mqtt.link import Link
from runtime.errors import FatalError
from runtime.mqtt.encoding import pubacks
from runtime.mqtt.wire import MalformedPacketError, frame, read_varint
from schemas import raw

Dial = Callable[[Callable[[], asyncio.Protocol]], Awaitable[tuple[Any, Any]]]
"""Opens the transport for a protocol factory: TCP, TLS or a unix socket."""

_FULL_READ_BYTES: Final = 65_536
_HEAD_BYTES: Final = 5 + 2 + 65_535 + 2 + 4
"""The longest way to the properties of a PUBLISH: lengths, topic, packet id."""
_CUT: Final = raw.CUT.encode()


class PublishProtocol(MQTTProtocol):
    """gmqtt's protocol on one connection. `link` outlives it."""

    def __init__(self, *args: Any, link: Link, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lost = False
        self._link = link
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        self._needed_bytes = 0
        self._group: object = None
        self._ids: list[bytes] = []
        self._asked: list[tuple[bytes, Properties]] = []
        self._paused = self._gathering = False
        self._reading = True

    async def _read_loop(self) -> None:
        """gmqtt 0.8.0 reads its StreamReader here, 64 KiB at a time, and makes an object of every packet. Not used:
        `data_received` takes the bytes before they reach that reader."""

    def eof_received(self) -> bool:
        """gmqtt 0.8.0 inherits StreamReaderProtocol's, which returns True: the socket would stay half open, and
        connection_lost, at which gmqtt reconnects, would not be called."""
        return False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._link.protocol = self

    def connection_lost(self, exc: Exception | None) -> None:
        """gmqtt 0.8.0's hands a DISCONNECT to its connection. `_connection` is None, and gmqtt's fails, when the broker
        hangs up before `MQTTConnection` was made."""
        self.lost = True
        if self._link.protocol is self:
            self._link.lost()
        if self._connection is not None:
            super().connection_lost(exc)

    def pause(self, on: bool) -> None:
        """Stop or go on reading; what the socket holds stays there, and the broker with it."""
        self._paused = on
        self._apply()

    def write(self, data: bytes) -> None:
        if data and self._connected.is_set() and not self._transport.is_closing():
            self.write_data(data)

    def data_received(self, data: bytes) -> None:
        """gmqtt 0.8.0's feeds the reader that `_read_loop` empties. `_last_data_in` is what `_keep_connection` goes by;
        otherwise only packets that reach `put_package` refresh it."""
        self._connection._last_data_in = time.monotonic()
        try:
            if self._partial:
                data = self._whole(data)
            if data:
                self._take(data)
        except MalformedPacketError as error:
            self._link.on_fatal(FatalError(f"the broker sent a malformed packet: {error}"), "reading from the broker")
        except Exception as error:
            self._link.on_fatal(error, "reading from the broker")

    def _take(self, data: bytes) -> None:
        """The hot path: one loop over the packets of a read. A row is written in place, see bridge.core.rows.row."""
        link, intake = self._link, self._link.intake
        if intake.open is not self._group:
            self._open_group()
        cached, route, properties_of = intake.routes.cache.get, intake.routes.route, link.properties.get
        acknowledge, asked = self._ids.append, self._asked.append
        shedding = intake.shedding
        now_ms = time.time_ns() // 1_000_000
        n = len(data)
        at = rows = dropped = 0
        try:
            while at < n:
                first = data[at]
                size = data[at + 1]
                i = at + 2
                if size > 127:
                    more = data[i]
                    if more > 127:
                        size, i = read_varint(data, at + 1)
                    else:
                        size = size & 127 | more << 7
                        i += 1
                end = i + size
                if end > n:
                    break
                if first & 0xF4 != 0x30:
                    self._other(first, data[i:end])
                    at = end
                    continue
                start = i + 2
                i = start + (data[i] << 8 | data[i + 1])
                topic = data[start:i]
                if first & 6:
                    acknowledge(data[i : i + 2])
                    i += 2
                elif shedding:
                    dropped += 1
                    at = end
                    continue
                size = data[i]
                i += 1
                properties = None
                if size:
                    if size > 127:
                        size, i = read_varint(data, i - 1)
                    properties = properties_of(data[i : i + size])
                    i += size
                if i > end:
                    raise FatalError(f"the broker sent a malformed PUBLISH of {end - at} bytes")
                at = end
                extend, device = cached(topic) or route(topic)
                extend((device, topic, data[i:end], properties, first, now_ms))
                rows += 1
                if properties is not None and properties[4]:
                    asked((device, properties))
        except IndexError:  # a header that is not complete yet, or a body that lies about its lengths
            borders = frame(data, at)
            if borders is not None and borders[1] <= n:
                raise FatalError(f"the broker sent a malformed packet of {borders[1] - at} bytes") from None
        if at < n:
            self._keep(data[at:] if at else data)
        if rows:
            link.took(rows, at)
        link.read(dropped)
        if link.pausing != self._paused:
            self.pause(link.pausing)
        if n < _FULL_READ_BYTES and link.gather_s:
            self._gather()

    def _other(self, first: int, body: bytes) -> None:
        kind = first & 0xF0
        if kind == 0x40:
            self.write(self._link.acked(int.from_bytes(body[:2], "big")))
        elif kind == 0x30:
            raise FatalError("the broker sent a PUBLISH at QoS 2, but the subscription is for QoS 1")
        elif kind == 0xE0 and body[:1] == b"\x8e":
            self._link.taken_over()
        else:
            self._connection.put_package(Package(first, body))

    def _open_group(self) -> None:
        group = self._link.intake.open
        self._group, self._ids, self._asked = group, [], []
        group.done.append(partial(self._acknowledge, self._ids, self._asked))

    def _acknowledge(self, ids: list[bytes], asked: list[tuple[bytes, Properties]]) -> None:
        """Kafka holds the group. PUBACKs go out on this connection or, when it is gone, not at all."""
        self.write(pubacks(ids))
        if asked:
            self._link.answer(asked)

    def _keep(self, rest: bytes) -> None:
        """The beginning of a packet that is not complete yet."""
        borders = frame(rest)
        self._partial, self._partial_bytes = [rest], len(rest)
        self._needed_bytes = borders[1] if borders else len(rest) + 1

    def _whole(self, data: bytes) -> bytes:
        """What is held and `data`, once the packet is complete; nothing until then. Never joined more than once."""
        most = self._link.intake.limits.payload_bytes + 3 * _HEAD_BYTES
        if self._needed_bytes > most and self._partial_bytes >= _HEAD_BYTES:
            return self._skip(data)
        self._partial.append(data)
        self._partial_bytes += len(data)
        if self._partial_bytes < self._needed_bytes:
            return b""
        whole, self._partial = b"".join(self._partial), []
        return whole

    def _skip(self, data: bytes) -> bytes:
        """A packet that no record could hold: only its beginning stays in memory. Returns what follows it."""
        self._partial_bytes += len(data)
        if self._partial_bytes < self._needed_bytes:
            return b""
        head, self._partial = b"".join(self._partial), []
        first, (i, _) = head[0], frame(head, 0) or (0, 0)
        if first & 0xF4 != 0x30:
            raise FatalError(f"the broker sent a packet of type {first >> 4} and {self._needed_bytes} bytes")
        if self._link.intake.open is not self._group:
            self._open_group()
        start = i + 2
        i = start + int.from_bytes(head[start - 2 : start], "big")
        topic = head[start:i]
        if first & 6:
            self._ids.append(head[i : i + 2])
            i += 2
        size, i = read_varint(head, i)
        properties = self._link.properties.get(head[i : i + size]) or Properties()
        extend, device = self._link.intake.route(topic)
        payload = head[i + size : i + size + 1024]
        extend((device, topic, payload, properties._replace(content_type=_CUT), first, time.time_ns() // 1_000_000))
        if properties.ack:
            self._asked.append((device, properties))
        metrics.CUT.inc()
        self._link.took(1, len(head))
        return data[len(data) - (self._partial_bytes - self._needed_bytes) :]

    def _gather(self) -> None:
        """The broker writes packet by packet: let the socket fill a little before the next read."""
        if not self._gathering:
            self._gathering = True
            self._link.loop.call_later(self._link.gather_s, self._gathered)
            self._apply()

    def _gathered(self) -> None:
        self._gathering = False
        self._apply()

    def _apply(self) -> None:
        reading = not (self._paused or self._gathering)
        if reading != self._reading and self._connected.is_set() and not self._transport.is_closing():
            self._reading = reading
            (self._transport.resume_reading if reading else self._transport.pause_reading)()


class BridgeConnection(MQTTConnection):
    """gmqtt's connection with our protocol in it."""

    def _keep_connection(self) -> None:
        """gmqtt 0.8.0 closes the connection when nothing came for two keep alives. While we do not read, nothing can
        come: PINGRESP waits in the socket, and a reconnect would make the broker send everything again."""
        if self._protocol._paused:
            self._last_data_in = time.monotonic()
        super()._keep_connection()


class BridgeClient(Client):
    """gmqtt's client that dials by itself, waits for room before it reconnects, and never gives up quietly."""

    def __init__(self, client_id: str, link: Link, dial: Dial, **properties: Any) -> None:
        super().__init__(client_id, clean_session=False, **properties)
        self._link = link
        self._dial = dial
        self.set_config({"reconnect_retries": -1, "reconnect_delay": 0.5})

    async def reconnect(self, delay: bool = False) -> None:
        """gmqtt 0.8.0 reconnects after `reconnect_delay`, whatever we have room for; and it runs this in a task that
        nothing awaits, so that an error would end reconnecting silently."""
        try:
            while self._link.pausing and self._is_active:  # noqa: ASYNC110 (a poll ten times a second harms nobody)
                await asyncio.sleep(0.1)  # the broker resends all that has no PUBACK: wait for room
            await super().reconnect(delay)
        except Exception as error:
            self._link.on_fatal(error, "reconnecting to the broker")

    async def _create_connection(
        self, host: str, port: int, ssl: ssl.SSLContext | None, clean_session: bool, keepalive: int
    ) -> BridgeConnection:
        """The body of gmqtt 0.8.0's, line by line, but for the two classes that it hard-codes (the connection here, the
        protocol in `MQTTConnection.create_connection`) and for the dialling: gmqtt knows TCP and TLS alone."""
        self._exit_reconnecting_state()
        self._package_handler.clear_topics_aliases()
        self._connack_received.clear()
        self._connection_lost.clear()
        factory = partial(
            PublishProtocol,
            link=self._link,
            connection_state=self._connection_state,
            id_generator=self._package_handler.id_generator,
        )
        transport, protocol = await self._dial(factory)
        connection = BridgeConnection(
            transport, protocol, clean_session, keepalive, package_handler=self._package_handler, logger=self._logger
        )
        if protocol.lost:
            raise ConnectionResetError("the broker closed the connection at once")
        return connection

    @property
    def receive_maximum(self) -> int:
        """How many QoS 1 messages the broker takes in flight."""
        found = self._package_handler._connack_properties.get("receive_maximum")
        return int(found[0]) if found else 65_535

    @property
    def is_mqtt5(self) -> bool:
        return bool(self._connection_state.protocol_version == MQTTv50)

    @property
    def refused(self) -> bool:
        """Whether the broker refused permanently; gmqtt then stops reconnecting."""
        return bool(self._package_handler._permanent_failure)
