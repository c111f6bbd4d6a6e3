"""The properties of MQTT 5.0 (2.2.2.2): one table, and the two functions that read and write by it."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

from runtime.mqtt.wire import MalformedPacketError, PacketType, Reader, binary, text, varint

Properties = Mapping[str, Any]
"""By the names of the table. `user_property` is a tuple of (key, value), `subscription_identifier` a tuple of numbers:
these may repeat. The others are int, str or bytes and may not."""
NONE: Final[Properties] = {}


class Kind(Enum):
    """How a property is written; the fixed sizes are their values."""

    BYTE = 1
    TWO = 2
    FOUR = 4
    VARINT = "varint"
    TEXT = "text"
    BINARY = "binary"
    PAIR = "pair"


class Property(NamedTuple):
    """`packets`: those in which it may occur; WILL stands for the properties of a CONNECT's will."""

    id: int
    name: str
    kind: Kind
    packets: frozenset[int]


WILL: Final = 0
_T = PacketType
_PUBLISHED = frozenset((_T.PUBLISH, WILL))
_CONNECT, _CONNACK = frozenset((_T.CONNECT,)), frozenset((_T.CONNACK,))
_BOTH = _CONNECT | _CONNACK
_AUTH = _BOTH | {_T.AUTH}
_ANSWERS = frozenset((_T.PUBACK, _T.PUBREC, _T.PUBREL, _T.PUBCOMP, _T.SUBACK, _T.UNSUBACK, _T.DISCONNECT, _T.AUTH))
_ALL = _ANSWERS | _BOTH | _PUBLISHED | {_T.SUBSCRIBE, _T.UNSUBSCRIBE}

TABLE: Final = (
    Property(0x01, "payload_format_indicator", Kind.BYTE, _PUBLISHED),
    Property(0x02, "message_expiry_interval", Kind.FOUR, _PUBLISHED),
    Property(0x03, "content_type", Kind.TEXT, _PUBLISHED),
    Property(0x08, "response_topic", Kind.TEXT, _PUBLISHED),
    Property(0x09, "correlation_data", Kind.BINARY, _PUBLISHED),
    Property(0x0B, "subscription_identifier", Kind.VARINT, frozenset((_T.PUBLISH, _T.SUBSCRIBE))),
    Property(0x11, "session_expiry_interval", Kind.FOUR, _BOTH | {_T.DISCONNECT}),
    Property(0x12, "assigned_client_identifier", Kind.TEXT, _CONNACK),
    Property(0x13, "server_keep_alive", Kind.TWO, _CONNACK),
    Property(0x15, "authentication_method", Kind.TEXT, _AUTH),
    Property(0x16, "authentication_data", Kind.BINARY, _AUTH),
    Property(0x17, "request_problem_information", Kind.BYTE, _CONNECT),
    Property(0x18, "will_delay_interval", Kind.FOUR, frozenset((WILL,))),
    Property(0x19, "request_response_information", Kind.BYTE, _CONNECT),
    Property(0x1A, "response_information", Kind.TEXT, _CONNACK),
    Property(0x1C, "server_reference", Kind.TEXT, _CONNACK | {_T.DISCONNECT}),
    Property(0x1F, "reason_string", Kind.TEXT, _ANSWERS | _CONNACK),
    Property(0x21, "receive_maximum", Kind.TWO, _BOTH),
    Property(0x22, "topic_alias_maximum", Kind.TWO, _BOTH),
    Property(0x23, "topic_alias", Kind.TWO, frozenset((_T.PUBLISH,))),
    Property(0x24, "maximum_qos", Kind.BYTE, _CONNACK),
    Property(0x25, "retain_available", Kind.BYTE, _CONNACK),
    Property(0x26, "user_property", Kind.PAIR, _ALL),
    Property(0x27, "maximum_packet_size", Kind.FOUR, _BOTH),
    Property(0x28, "wildcard_subscription_available", Kind.BYTE, _CONNACK),
    Property(0x29, "subscription_identifier_available", Kind.BYTE, _CONNACK),
    Property(0x2A, "shared_subscription_available", Kind.BYTE, _CONNACK),
)
BY_ID: Final = {one.id: one for one in TABLE}
BY_NAME: Final = {one.name: one for one in TABLE}
_REPEATABLE: Final = frozenset(("user_property", "subscription_identifier"))


def decode_properties(reader: Reader, packet: int) -> dict[str, Any]:
    """The properties of a packet (a PacketType, or WILL) at the reader. Raises MalformedPacketError."""
    size = reader.varint()
    if not size:
        return {}
    start = reader.at
    reader.take(size)
    inner = Reader(reader.data, f"a property of {reader.what}", start, reader.at)
    found: dict[str, Any] = {}
    while inner.more:
        one = BY_ID.get(inner.number(1))
        if one is None or packet not in one.packets:
            raise MalformedPacketError(f"{reader.what} has a property that it cannot have")
        value = _read(inner, one.kind)
        if one.name in _REPEATABLE:
            found[one.name] = (*found.get(one.name, ()), value)
        elif one.name in found:
            raise MalformedPacketError(f"{reader.what} has {one.name} twice")
        else:
            found[one.name] = value
    return found


def encode_properties(properties: Properties) -> bytes:
    """Properties with their length before them. Raises KeyError for a name that is not in the table."""
    block = b"".join(encode_property(name, value) for name, value in properties.items())
    return varint(len(block)) + block


def encode_property(name: str, value: Any) -> bytes:
    """One property; of one that repeats, all of its values."""
    one = BY_NAME[name]
    values = value if name in _REPEATABLE else (value,)
    return b"".join(bytes((one.id,)) + _write(one.kind, each) for each in values)


def user_property(key: bytes, value: bytes) -> bytes:
    """One user property of texts that are encoded already: for who sends many."""
    return b"\x26" + binary(key) + binary(value)


def _read(reader: Reader, kind: Kind) -> Any:
    if kind is Kind.PAIR:
        return reader.text(), reader.text()
    if kind is Kind.TEXT:
        return reader.text()
    if kind is Kind.BINARY:
        return reader.binary()
    return reader.varint() if kind is Kind.VARINT else reader.number(kind.value)


def _write(kind: Kind, value: Any) -> bytes:
    if kind is Kind.PAIR:
        return text(value[0]) + text(value[1])
    if kind is Kind.TEXT:
        return text(value)
    if kind is Kind.BINARY:
        return binary(value)
    return varint(value) if kind is Kind.VARINT else int(value).to_bytes(kind.value, "big")
