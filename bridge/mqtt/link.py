"""What outlives a connection to the broker: the way into Kafka, the acknowledgements, the pauses."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bridge.core.intake import Intake
from bridge.core.rows import Row
from bridge.mqtt import metrics
from bridge.mqtt.core import connects
from bridge.mqtt.core.outgoing import Outgoing
from bridge.mqtt.core.properties import PropertyCache
from bridge.mqtt.core.receipts import Asked, receipts
from bridge.writer import Writer
from runtime.errors import RefusedError
from runtime.lifecycle import die

if TYPE_CHECKING:
    from bridge.mqtt.gmqtt_fast import PublishProtocol


class Link:
    """Called by the protocol once a read, a group or a packet of ours; never once a message."""

    def __init__(self, writer: Writer, gather_s: float, on_fatal: Callable[[BaseException, str], Any] = die) -> None:
        self.intake: Intake = writer.intake
        self.gather_s = gather_s
        self.on_fatal = on_fatal
        self.loop = asyncio.get_running_loop()
        self.properties = PropertyCache()
        self.protocol: PublishProtocol | None = None
        self.draining = False
        self._writer = writer
        self._outgoing = Outgoing()
        self._malformed = self._dropped = 0
        self._lines = self._events = 0
        writer.on_pause.append(self._on_pause)

    @property
    def pausing(self) -> bool:
        """Whether nothing is to be read: over budget, or stopping."""
        return self.draining or self.intake.paused

    def listen(self, log_topic: str) -> None:
        """Take messages on this topic for lines of the broker's log."""
        self.intake.routes.divert(log_topic.encode(), self._line)

    def took(self, rows: int, size_bytes: int) -> None:
        """Of `rows` some may have been lines of the log."""
        lines, events, self._lines, self._events = self._lines, self._events, 0, 0
        self._writer.added(rows - lines, size_bytes, events)
        if events:
            metrics.CONNECTIONS.inc(events)

    def _line(self, row: Row) -> None:
        """A connect or disconnect in the broker's log becomes a row among the device's messages."""
        self._lines += 1
        event = connects.parse(row[2])
        if event is not None:
            found = connects.platform_row(event, row[5])
            self.intake.route(found[1])[0](found)
            self._events += 1

    def read(self, dropped: int) -> None:
        """One read is done; it dropped so many QoS 0 messages."""
        metrics.READS.inc()
        if dropped:
            metrics.DROPPED_QOS0.inc(dropped)
        if self.properties.malformed != self._malformed:
            metrics.MALFORMED.inc(self.properties.malformed - self._malformed)
            self._malformed = self.properties.malformed

    def connected(self, receive_maximum: int) -> None:
        self._outgoing.connected(receive_maximum)
        self._send()

    def lost(self) -> None:
        self.protocol = None
        self._outgoing.disconnected()
        metrics.CONNECTED.set(0)

    def drain(self) -> None:
        """Read no more. The session stays, and so does what the broker holds for it."""
        self.draining = True
        self._on_pause(True)

    def answer(self, asked: list[Asked]) -> None:
        """Kafka stored these: acknowledge them to the devices that asked for it."""
        found = receipts(asked)
        self._outgoing.push(found)
        metrics.RECEIPTS.inc(len(found))
        if self._outgoing.dropped != self._dropped:
            metrics.RECEIPTS_DROPPED.inc(self._outgoing.dropped - self._dropped)
            self._dropped = self._outgoing.dropped
        self._send()

    def acked(self, packet_id: int) -> bytes:
        """The broker took a message of ours. Returns what may leave now."""
        return self._outgoing.take() if self._outgoing.acked(packet_id) else b""

    def taken_over(self) -> None:
        self.on_fatal(
            RefusedError(
                "another client connected with this bridge's client id; give each bridge its own MILLRACE_INSTANCE,"
                " then restart it"
            ),
            "broker",
        )

    def _send(self) -> None:
        if self.protocol is not None:
            self.protocol.write(self._outgoing.take())

    def _on_pause(self, on: bool) -> None:
        if self.protocol is not None:
            self.protocol.pause(on or self.draining)
