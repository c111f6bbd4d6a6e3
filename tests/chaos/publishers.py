"""Publishers that Millrace does not contain: paho-mqtt, one client a device, a known set of messages."""

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.waiting import wait_for

SESSION_S = 3600


class Publisher:
    """Publishes numbered messages at QoS 1 from a thread of its own until told to stop.

    `stamped`: with (boot, seq), so exactly once is promised; otherwise at least once. `end_to_end`: keeps each message
    until `c/{id}/ack` names it and sends again what is not named in time.
    """

    RESEND_S = 8.0

    def __init__(self, device: str, address: tuple[str, int], rate: float, stamped: bool, end_to_end: bool) -> None:
        self.device, self.rate, self.stamped, self.end_to_end = device, rate, stamped, end_to_end
        self.published = 0
        self.waiting: dict[int, float] = {}
        """seq → when it was last sent, of messages without their acknowledgement."""
        self.connects = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=device, protocol=mqtt.MQTTv5)
        self._client.max_inflight_messages_set(200)
        self._client.max_queued_messages_set(0)
        self._client.reconnect_delay_set(1, 2)
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self._by_mid: dict[int, int] = {}
        self._settled: deque[int] = deque()  # paho calls back with a lock of its own held: only note it there
        self._address = address
        self._thread = threading.Thread(target=self._run, name=device, daemon=True)

    def start(self) -> None:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = SESSION_S
        self._client.connect_async(*self._address, keepalive=10, clean_start=False, properties=properties)
        self._client.loop_start()
        self._thread.start()

    def stop_publishing(self) -> None:
        self._stopping.set()
        self._thread.join()

    def finish(self, timeout_s: float = 120.0) -> None:
        """Wait until every message has its acknowledgement, then disconnect."""

        def acknowledged() -> bool:
            if self.end_to_end:
                self._resend()
            return not self._outstanding()

        what = f"acknowledgements of {self.device}"
        wait_for(acknowledged, lambda: f"{what}: {len(self.waiting)} of {self.published} lack", timeout_s, every_s=0.1)
        self._client.disconnect()
        self._client.loop_stop()

    def _outstanding(self) -> bool:
        for _ in range(len(self._settled)):
            mid = self._settled.popleft()
            seq = self._by_mid.pop(mid, None)
            if seq is None:
                self._settled.append(mid)
            elif not self.end_to_end:
                self.waiting.pop(seq, None)
        with self._lock:
            return bool(self.waiting)

    def _run(self) -> None:
        while not self._stopping.is_set():
            seq = self.published
            self.published += 1
            with self._lock:
                self.waiting[seq] = time.monotonic()
            self._send(seq)
            if seq % 50 == 0:
                self._outstanding()
                if self.end_to_end:
                    self._resend()
            time.sleep(1 / self.rate)

    def _send(self, seq: int) -> None:
        body: dict[str, Any] = {"n": seq}
        properties = Properties(PacketTypes.PUBLISH)
        if self.end_to_end:
            properties.UserProperty = [("ack", "1"), ("boot", "1"), ("seq", str(seq))]
        elif self.stamped:
            body |= {"boot": 1, "seq": seq}
        topic = f"d/{self.device}/telemetry/climate"
        info = self._client.publish(topic, json.dumps(body), qos=1, properties=properties)
        self._by_mid[info.mid] = seq

    def _resend(self) -> None:
        """A device's own store: what was not named in time is sent again. paho's own queue dies with a lost session."""
        now = time.monotonic()
        if not self._client.is_connected():
            return
        with self._lock:
            due = [seq for seq, at in self.waiting.items() if now - at > self.RESEND_S]
            for seq in due:
                self.waiting[seq] = now
        for seq in due:
            self._send(seq)

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        self.connects += 1
        if self.end_to_end:
            client.subscribe(f"c/{self.device}/ack", qos=1)

    def _on_publish(self, _client: mqtt.Client, _data: Any, mid: int, *_: Any) -> None:
        self._settled.append(mid)

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        with self._lock:
            for seq in _named(message.payload):
                self.waiting.pop(seq, None)


def _named(payload: bytes) -> Iterator[int]:
    for first, last in json.loads(payload)["ranges"]:
        yield from range(first, last + 1)
