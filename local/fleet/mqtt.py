"""A device that publishes over MQTT 5: an asyncio protocol, thousands in a process, microseconds a message.

It keeps what the broker has not acknowledged and sends it again, marked as a repeat, after a reconnect. Of a message
with a name it also awaits the end-to-end acknowledgement (`c/{id}/ack`): not even a broker that forgets can lose it.
"""

import asyncio
import logging
import ssl
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import orjson

from local.fleet.publication import Publication
from local.fleet.totals import Totals
from runtime import mqtt
from runtime.mqtt import MAX_PACKET_ID, Connack, Connect, Puback, Publish, Subscribe, encoding
from runtime.retry import RetryPolicy
from runtime.tasks import cancel
from schemas.topics import ack_topic

log = logging.getLogger(__name__)

KEEP_ALIVE_S: Final = 60
SESSION_EXPIRY_S: Final = 600
ANSWER_TIMEOUT_S: Final = 30.0
RESEND_S: Final = 10.0
"""After so long without its end-to-end acknowledgement a message is sent again."""
MAX_WINDOW: Final = 1000
"""Messages of a device that the broker has not acknowledged; what is more waits in the device."""
GATHER_S: Final = 0.1
_GOODBYE_S: Final = 2.0
_AGAIN: Final = RetryPolicy(first_s=0.1, longest_s=3.0, errors=(OSError, TimeoutError))
_SUBSCRIBE_ID: Final = MAX_PACKET_ID
_LAST_ID: Final = _SUBSCRIBE_ID - 1
_IDS: Final = [number.to_bytes(2, "big") for number in range(MAX_PACKET_ID + 1)]
_PUBACK: Final = encoding.pubacks([b""])
_EXPIRY: Final = {"session_expiry_interval": SESSION_EXPIRY_S}
"""The session outlives the connection for a while: a resend is then a repeat of the same packet."""
_TAKEN_OVER: Final = 0x8E

Name = tuple[int, int]
"""(boot, seq)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the broker listens; `tls` with the device's own certificate, or None."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


class Hush:
    """Lets acknowledgements gather: the broker writes each by itself, and a read costs as much as ten messages.

    A device that has sent a burst does not read until GATHER_S later; one timer serves all.
    """

    def __init__(self) -> None:
        self._quiet: list[asyncio.Transport] = []

    def hold(self, transport: asyncio.Transport) -> None:
        transport.pause_reading()
        if not self._quiet:
            asyncio.get_running_loop().call_later(GATHER_S, self._release)
        self._quiet.append(transport)

    def _release(self) -> None:
        quiet, self._quiet = self._quiet, []
        for transport in quiet:
            if not transport.is_closing() and not transport.is_reading():
                transport.resume_reading()


@dataclass(frozen=True, slots=True)
class Shared:
    """What all devices of a fleet have in common. `gate` bounds the connections that are being opened at once."""

    totals: Totals
    gate: asyncio.Semaphore
    hush: Hush = field(default_factory=Hush)


class Device(asyncio.Protocol):
    """One device. `start` it, `send`, wait until `idle`, `close`. `tick` must be called about once a second.

    `listens`: it takes end-to-end acknowledgements.
    """

    def __init__(self, id: str, endpoint: Endpoint, shared: Shared, listens: bool = False) -> None:
        self.id = id
        self.ready = asyncio.Event()
        self._endpoint, self._totals, self._gate, self._listens = endpoint, shared.totals, shared.gate, listens
        self._hush = shared.hush
        self._transport: asyncio.Transport | None = None
        self._backlog: deque[Publication] = deque()
        self._pending: deque[tuple[bytes, bytes, Name | None]] = deque()
        self._unconfirmed: dict[Name, tuple[Publication, float]] = {}
        self._window = MAX_WINDOW
        self._next_id = 1
        self._rest = b""
        self._heard_at = self._spoke_at = 0.0
        self._restarting = self._closing = False
        self._gone = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # -- for the fleet

    def start(self) -> None:
        self._task = asyncio.create_task(self._connect())

    def send(self, publications: Sequence[Publication]) -> None:
        """Take messages; they leave now, or when the connection and its window allow it."""
        self._totals.given += len(publications)
        self._backlog.extend(publications)
        self._flush()

    @property
    def idle(self) -> bool:
        return not (self._backlog or self._pending or self._unconfirmed)

    def restart(self) -> None:
        """Reboot: finish what is under way, hang up, connect again."""
        self._restarting = True
        self._hang_up_if_done()

    def tick(self, now: float) -> None:
        """Keep the connection alive; give up on a dead one; repeat what Kafka has not acknowledged for long."""
        if self._transport is None or not self.ready.is_set():
            return
        if now - self._heard_at > 1.5 * KEEP_ALIVE_S:
            self._transport.abort()
        elif now - min(self._spoke_at, self._heard_at) > KEEP_ALIVE_S / 2:
            self._spoke_at = now
            self._transport.write(encoding.PINGREQ)
        late = [p for p, sent_at in self._unconfirmed.values() if now - sent_at > RESEND_S]
        if late:
            self._again(late, now)

    async def close(self) -> None:
        self._closing = True
        await cancel(self._task)
        if self._transport is not None:
            self._transport.write(encoding.DISCONNECT)
            self._transport.close()
            try:
                await asyncio.wait_for(self._gone.wait(), _GOODBYE_S)
            except TimeoutError:
                self._transport.abort()

    # -- connecting

    async def _connect(self) -> None:
        failures = 0
        while not self._closing:
            try:
                async with self._gate:
                    await self._open()
                    await asyncio.wait_for(self.ready.wait(), ANSWER_TIMEOUT_S)
                return
            except _AGAIN.errors as error:
                if self._transport is not None:
                    self._transport.abort()
                self._totals.error = f"{self.id}: {error or type(error).__name__}"  # no log line: there are thousands
                failures += 1
                await asyncio.sleep(_AGAIN.wait_s(failures))

    async def _open(self) -> None:
        at = self._endpoint
        loop = asyncio.get_running_loop()
        name = at.host if at.tls else None
        await loop.create_connection(lambda: self, at.host, at.port, ssl=at.tls, server_hostname=name)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._gone.clear()
        self._rest = b""
        self._heard_at = self._spoke_at = time.monotonic()
        self._transport.write(mqtt.encode(Connect(self.id, False, KEEP_ALIVE_S, properties=_EXPIRY)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._gone.set()
        if self.ready.is_set():
            self.ready.clear()
            self._totals.connected -= 1
        if not self._closing and (self._task is None or self._task.done()):
            self.start()

    def _connected(self, connack: Connack) -> None:
        if connack.reason:
            self._totals.error = f"{self.id}: the broker refused the connection, reason {connack.reason:#x}"
            assert self._transport is not None
            self._transport.close()
            return
        self._window = min(MAX_WINDOW, connack.properties.get("receive_maximum", MAX_PACKET_ID))
        if self._listens:
            self._write([mqtt.encode(Subscribe(_SUBSCRIBE_ID, (mqtt.Subscription(ack_topic(self.id), 1),)))])
        else:
            self._take_up()

    def _take_up(self) -> None:
        """The connection is there: what was under way goes again, then what waited."""
        self._totals.connected += 1
        self._totals.connects += 1
        self.ready.set()
        self._restarting = False
        if self._pending:
            self._totals.resent += len(self._pending)
            self._write([encoding.repeated(packet) for _, packet, _ in self._pending])
        under_way = {p.name for p in self._backlog} | {name for _, _, name in self._pending}
        self._again([p for name, (p, _) in self._unconfirmed.items() if name not in under_way], time.monotonic())
        self._flush()

    # -- sending

    def _flush(self) -> None:
        """Send what the window allows, in one write."""
        if not self._backlog or self._restarting or not self.ready.is_set():
            return
        out = []
        backlog, pending, next_id = self._backlog, self._pending, self._next_id
        for _ in range(min(len(backlog), self._window - len(pending))):
            topic, properties, payload, name = publication = backlog.popleft()
            packet_id = _IDS[next_id]
            next_id = next_id + 1 if next_id < _LAST_ID else 1
            packet = encoding.publish_qos1(topic, packet_id, properties, payload)
            pending.append((packet_id, packet, name))
            out.append(packet)
            if name is not None:
                self._totals.unconfirmed += name not in self._unconfirmed
                self._unconfirmed[name] = publication, time.monotonic()
        self._next_id = next_id
        if out:
            self._write(out)
            if len(pending) > 1:
                self._gather()

    def _write(self, out: list[bytes]) -> None:
        if self._transport is not None:
            self._spoke_at = time.monotonic()
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _again(self, publications: Sequence[Publication], now: float) -> None:
        """Send what Kafka did not acknowledge as new messages; their (boot, seq) identifies them as repeats."""
        for publication in publications:
            assert publication.name is not None
            self._unconfirmed[publication.name] = publication, now
        self._totals.resent += len(publications)
        if publications:
            self.send(publications)

    # -- receiving

    def data_received(self, data: bytes) -> None:
        count = len(data) >> 2
        if not self._rest and len(data) == count << 2 and data[:2] == _PUBACK and self._took(data, count):
            return
        whole, self._rest = mqtt.split(self._rest + data)
        self._heard_at = time.monotonic()
        for first, body in whole:
            self._packet(first, body)

    def _packet(self, first: int, body: bytes) -> None:
        if first == _PUBACK[0] and len(body) == 2:
            self._acknowledged(body, 0)
            return
        match mqtt.decode(first, body):
            case Puback(packet_id, reason):
                self._acknowledged(_IDS[packet_id], reason)
            case Publish() as publish:
                self._published(publish)
            case Connack() as connack:
                self._connected(connack)
            case mqtt.Suback():
                self._take_up()
            case mqtt.Disconnect(reason):
                why = "another client has this device's id" if reason == _TAKEN_OVER else f"reason {reason:#x}"
                self._totals.error = f"{self.id}: the broker hung up: {why}"

    def _took(self, data: bytes, count: int) -> bool:
        """Whether `data` is `count` plain PUBACKs for the oldest messages, in order; then they are done."""
        pending = self._pending
        if len(pending) < count or data != b"".join([_PUBACK + pending[i][0] for i in range(count)]):
            return False
        for _ in range(count):
            pending.popleft()
        self._done(count)
        return True

    def _done(self, count: int) -> None:
        self._totals.acknowledged += count
        self._heard_at = time.monotonic()
        if self._backlog:
            self._flush()
        if self._restarting:
            self._hang_up_if_done()
        if self._pending:
            self._gather()

    def _gather(self) -> None:
        """More acknowledgements are to come: read them together."""
        if self._transport is not None and self._transport.is_reading():
            self._hush.hold(self._transport)

    def _acknowledged(self, acked_id: bytes, reason: int) -> None:
        if reason >= 0x80:
            self._totals.refused += 1
            self._totals.error = f"{self.id}: the broker refused a message, reason {reason:#x}"
        for at, (packet_id, _, _) in enumerate(self._pending):
            if packet_id == acked_id:
                del self._pending[at]
                self._done(1)
                return

    def _published(self, publish: Publish) -> None:
        """The only thing that devices of the fleet listen to: `{"boot":B,"ranges":[[first,last],…]}`."""
        if publish.qos:
            self._write([encoding.pubacks([_IDS[publish.packet_id]])])
        found = orjson.loads(publish.payload)
        for low, high in found["ranges"]:
            held = [name for name in self._unconfirmed if name[0] == found["boot"] and low <= name[1] <= high]
            for name in held:
                del self._unconfirmed[name]
            self._totals.unconfirmed -= len(held)
        self._hang_up_if_done()

    def _hang_up_if_done(self) -> None:
        if self._restarting and not self._pending and self._transport is not None and self.ready.is_set():
            self._transport.write(encoding.DISCONNECT)
            self._transport.close()
