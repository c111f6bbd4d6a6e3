"""Messages that the bridge itself publishes at QoS 1: packet ids, the broker's window, a bounded queue."""

from collections import deque
from collections.abc import Iterable
from typing import Final

from runtime.mqtt.encoding import publish_qos1
from runtime.mqtt.wire import binary, two

_FIRST_ID: Final = 1024
"""Ids below are left to gmqtt's SUBSCRIBE."""
_MOST_IN_FLIGHT: Final = 8192


class Outgoing:
    """`push` messages, write what `take` returns, call `acked` for each PUBACK and `connected` for each new connection.

    What is in flight when a connection ends is sent again on the next one. Above `most` waiting messages the newest are
    dropped and counted: a device that asked for an acknowledgement asks again.
    """

    def __init__(self, most: int = 20_000) -> None:
        self.dropped = 0
        self._most = most
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self._in_flight: dict[int, tuple[bytes, bytes]] = {}
        self._ids: deque[int] = deque()

    def connected(self, receive_maximum: int) -> None:
        self._waiting.extendleft(reversed(self._in_flight.values()))
        self._in_flight.clear()
        self._ids = deque(range(_FIRST_ID, _FIRST_ID + min(receive_maximum, _MOST_IN_FLIGHT)))

    def disconnected(self) -> None:
        """Nothing can be sent until `connected`."""
        self._ids.clear()

    def push(self, messages: Iterable[tuple[str, bytes]]) -> None:
        for topic, payload in messages:
            if len(self._waiting) < self._most:
                self._waiting.append((binary(topic.encode()), payload))
            else:
                self.dropped += 1

    def take(self) -> bytes:
        """Packets that may leave now, joined."""
        packets = []
        while self._waiting and self._ids:
            packet_id, message = self._ids.popleft(), self._waiting.popleft()
            self._in_flight[packet_id] = message
            packets.append(publish_qos1(message[0], two(packet_id), b"", message[1]))
        return b"".join(packets)

    def acked(self, packet_id: int) -> bool:
        """The broker has it. True when something waits for the id that is free again."""
        if self._in_flight.pop(packet_id, None) is None:
            return False
        self._ids.append(packet_id)
        return bool(self._waiting)
