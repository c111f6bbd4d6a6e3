"""The bridge's connection to its broker: made, subscribed on, kept, drained."""

import asyncio
import logging
import ssl
from typing import Any, Final

from gmqtt import Subscription

from bridge.mqtt import metrics
from bridge.mqtt.gmqtt_fast import BridgeClient, Dial
from bridge.mqtt.link import Link
from bridge.mqtt.settings import MqttSettings, MqttUrl
from bridge.writer import Writer
from runtime.errors import RefusedError
from runtime.lifecycle import guard
from runtime.retry import RetryPolicy, retry_async
from runtime.tasks import cancel

log = logging.getLogger(__name__)

_RETRY: Final = RetryPolicy(first_s=0.5, longest_s=2.0, errors=(OSError,))
_SHORT_S: Final = 2.0
_FLAPS: Final = 3
_QOS: Final = 1
_QOS_OF_LOG: Final = 0
_RETAINED_ONCE: Final = 1
"""Retained messages only when the subscription is new: else every reconnect would bring them again."""


def dial(url: MqttUrl, context: ssl.SSLContext | None) -> Dial:
    """How the broker at `url` is reached."""

    async def connect(factory: Any) -> tuple[Any, Any]:
        loop = asyncio.get_running_loop()
        if url.path:
            return await loop.create_unix_connection(factory, url.path)
        return await loop.create_connection(factory, url.host, url.port, ssl=context)

    return connect


def client(settings: MqttSettings, link: Link) -> BridgeClient:
    """The client with its credentials. Raises RefusedError when one of their files cannot be used."""
    try:
        context, password = settings.tls_context(), settings.password()
    except OSError as error:
        raise RefusedError(f"credentials for {settings.mqtt_url}: {error}") from error
    made = BridgeClient(
        settings.client_id,
        link,
        dial(settings.mqtt_url, context),
        session_expiry_interval=settings.session_expiry_s,
        receive_maximum=settings.receive_maximum,
    )
    if settings.mqtt_user:
        made.set_auth_credentials(settings.mqtt_user, password)
    return made


class Source:
    """Part of the service: connects in the background, so that it waits for a broker that is down."""

    def __init__(self, settings: MqttSettings, link: Link, writer: Writer) -> None:
        self._settings = settings
        self._link = link
        self._writer = writer
        self._subscribed = False
        self._connected_at_s = 0.0
        self._short = 0
        self._task: asyncio.Task[None] | None = None
        if settings.mqtt_log_topic:
            link.listen(settings.mqtt_log_topic)
        self._client = client(settings, link)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect

    async def start(self) -> None:
        self._task = guard(self._connect(), "connecting to the broker")

    async def stop(self) -> None:
        """Read no more, wait for Kafka, acknowledge, leave; the session stays at the broker."""
        self._link.drain()
        await cancel(self._task)
        await self._writer.drain()
        if self._link.protocol is not None:
            await self._client.disconnect()

    def wrong(self) -> str | None:
        """For readiness."""
        return None if self._subscribed and self._link.protocol else f"not subscribed at {self._settings.mqtt_url}"

    async def _connect(self) -> None:
        """The first connection; gmqtt makes the later ones by itself."""
        url = self._settings.mqtt_url
        await retry_async(
            lambda: self._client.connect(url.host, url.port, keepalive=self._settings.keepalive_s, raise_exc=False),
            f"connection to the broker {url}",
            _RETRY,
        )

    def _on_connect(self, client: BridgeClient, session_present: int, reason: int, properties: Any) -> None:
        if not client.is_mqtt5:
            self._refuse("the broker does not support MQTT 5")
        metrics.CONNECTS.inc()
        self._connected_at_s = self._link.loop.time()
        log.info("connected to %s", self._settings.mqtt_url, extra={"session_present": bool(session_present)})
        self._link.connected(client.receive_maximum)
        client.subscriptions.clear()
        wanted = [(self._settings.mqtt_filter, _QOS), (self._settings.mqtt_log_topic, _QOS_OF_LOG)]
        client.subscribe(
            [
                Subscription(topic_filter, qos=qos, retain_as_published=True, retain_handling_options=_RETAINED_ONCE)
                for topic_filter, qos in wanted
                if topic_filter
            ]
        )

    def _on_subscribe(self, client: BridgeClient, packet_id: int, granted: tuple[int, ...], properties: Any) -> None:
        if granted[0] != _QOS:
            self._refuse(f"the broker granted {granted[0]} for {self._settings.mqtt_filter!r}; check the bridge's ACL")
        if granted[1:] not in ((), (_QOS_OF_LOG,)):
            log.error(
                "no permission to subscribe to %s: connects and disconnects are not recorded; allow it in the"
                " bridge's ACL",
                self._settings.mqtt_log_topic,
            )
        self._subscribed = True
        metrics.CONNECTED.set(1)

    def _on_disconnect(self, client: BridgeClient, packet: Any, error: Any = None) -> None:
        self._subscribed = False
        metrics.CONNECTED.set(0)
        self._watch_flapping()
        if client.refused:
            self._refuse("the broker refuses the connection; check the bridge's certificate and the broker's log")

    def _watch_flapping(self) -> None:
        """mosquitto 2.0 does not report that another client took the session over; the pattern shows it."""
        lived_s = self._link.loop.time() - self._connected_at_s
        self._short = self._short + 1 if lived_s < _SHORT_S else 0
        if self._short >= _FLAPS:
            log.error(
                "the broker ended %d connections within seconds: does another client use the id %s?",
                self._short,
                self._settings.client_id,
            )

    def _refuse(self, why: str) -> None:
        self._link.on_fatal(RefusedError(f"{self._settings.mqtt_url}: {why}"), "broker")
