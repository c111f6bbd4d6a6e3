"""A device: paho-mqtt, which Millrace does not contain, at MQTT 5."""

import queue
from typing import Any

import orjson
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


class Device:
    """Connects to a plain listener with its id as client id. Use as a context."""

    def __init__(self, port: int, name: str) -> None:
        self.name = name
        self.received: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5)
        self._client.max_queued_messages_set(0)
        self._client.max_inflight_messages_set(1000)
        self._client.on_message = lambda _c, _u, m: self.received.put((m.topic, orjson.loads(m.payload)))
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def listen(self) -> None:
        """Subscribe to what the platform says to this device."""
        granted: queue.Queue[bool] = queue.Queue()
        self._client.on_subscribe = lambda *_: granted.put(True)
        self._client.subscribe(f"c/{self.name}/#", qos=1)
        granted.get(timeout=10)

    def send(
        self,
        payload: bytes | str,
        topic: str | None = None,
        qos: int = 1,
        retain: bool = False,
        content_type: str | None = None,
        **user: object,
    ) -> paho.MQTTMessageInfo:
        properties = Properties(PacketTypes.PUBLISH)
        if content_type is not None:
            properties.ContentType = content_type
        if user:
            properties.UserProperty = [(key, str(value)) for key, value in user.items()]
        topic = topic or f"d/{self.name}/telemetry/climate"
        return self._client.publish(topic, payload, qos, retain, properties)

    def sent(self, *messages: paho.MQTTMessageInfo) -> None:
        """Wait until the broker has them."""
        for message in messages:
            message.wait_for_publish(20)
            assert message.is_published()
