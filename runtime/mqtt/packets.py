"""The packets of MQTT as values. Those of MQTT 5 alone have no meaning, and are not sent, in MQTT 3.1.1."""

from typing import NamedTuple

from runtime.mqtt.properties import NONE, Properties
from runtime.mqtt.wire import V5


class Will(NamedTuple):
    """What the broker publishes for a client that vanished."""

    topic: bytes
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = NONE


class Connect(NamedTuple):
    """`clean_start`: what MQTT 3.1.1 calls a clean session."""

    client_id: str
    clean_start: bool = True
    keep_alive_s: int = 0
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = NONE
    version: int = V5


class Connack(NamedTuple):
    """`reason`: 0 is success; codes above differ between the versions."""

    session_present: bool = False
    reason: int = 0
    properties: Properties = NONE


class Publish(NamedTuple):
    """`topic` is UTF-8 without wildcards; `packet_id` is 0 at QoS 0."""

    topic: bytes
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    retain: bool = False
    dup: bool = False
    properties: Properties = NONE


class Puback(NamedTuple):
    packet_id: int
    reason: int = 0
    properties: Properties = NONE


class Pubrec(NamedTuple):
    packet_id: int
    reason: int = 0
    properties: Properties = NONE


class Pubrel(NamedTuple):
    packet_id: int
    reason: int = 0
    properties: Properties = NONE


class Pubcomp(NamedTuple):
    packet_id: int
    reason: int = 0
    properties: Properties = NONE


class Subscription(NamedTuple):
    """One filter of a SUBSCRIBE. `retain_handling`: 0 send retained ones, 1 only if new, 2 never."""

    filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


class Subscribe(NamedTuple):
    packet_id: int
    subscriptions: tuple[Subscription, ...]
    properties: Properties = NONE


class Suback(NamedTuple):
    """`reasons`, one a filter: the QoS granted, or 0x80 and above."""

    packet_id: int
    reasons: tuple[int, ...]
    properties: Properties = NONE


class Unsubscribe(NamedTuple):
    packet_id: int
    filters: tuple[str, ...]
    properties: Properties = NONE


class Unsuback(NamedTuple):
    """MQTT 3.1.1 gives no `reasons`."""

    packet_id: int
    reasons: tuple[int, ...] = ()
    properties: Properties = NONE


class Pingreq(NamedTuple):
    pass


class Pingresp(NamedTuple):
    pass


class Disconnect(NamedTuple):
    reason: int = 0
    properties: Properties = NONE


class Auth(NamedTuple):
    reason: int = 0
    properties: Properties = NONE


Packet = (
    Connect
    | Connack
    | Publish
    | Puback
    | Pubrec
    | Pubrel
    | Pubcomp
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
