"""Packets to bytes. `version` is V5 or V311; what the older one does not know is left out.

What a program sends is its own: values out of range raise ValueError or OverflowError, they are not checked for sense.
"""

from typing import Final

from runtime.mqtt import packets as p
from runtime.mqtt.properties import Properties, encode_properties
from runtime.mqtt.wire import V5, PacketType, binary, packet, text, two, varint

PINGREQ: Final = b"\xc0\x00"
PINGRESP: Final = b"\xd0\x00"
DISCONNECT: Final = b"\xe0\x00"
"""A DISCONNECT for no special reason."""
DUP: Final = 0x08
_PUBACK: Final = b"\x40\x02"


def encode(value: p.Packet, version: int = V5) -> bytes:
    """Any packet. A CONNECT goes by its own version."""
    match value:
        case p.Publish():
            return encode_publish(value, version)
        case p.Puback() | p.Pubrec() | p.Pubrel() | p.Pubcomp():
            return encode_ack(value, version)
        case p.Connect():
            return encode_connect(value)
        case p.Connack():
            return encode_connack(value, version)
        case p.Subscribe():
            return encode_subscribe(value, version)
        case p.Suback():
            return encode_suback(value, version)
        case p.Unsubscribe():
            return encode_unsubscribe(value, version)
        case p.Unsuback():
            return encode_unsuback(value, version)
        case p.Pingreq():
            return PINGREQ
        case p.Pingresp():
            return PINGRESP
        case p.Disconnect():
            return encode_disconnect(value, version)
        case p.Auth():
            return packet(0xF0, bytes((value.reason,)) + encode_properties(value.properties))


def encode_connect(value: p.Connect) -> bytes:
    will, five = value.will, value.version == V5
    flags = 2 * value.clean_start | (value.username is not None) << 7 | (value.password is not None) << 6
    body = [text(value.client_id)]
    if will is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
        body += [encode_properties(will.properties) if five else b"", binary(will.topic), binary(will.payload)]
    if value.username is not None:
        body.append(text(value.username))
    if value.password is not None:
        body.append(binary(value.password))
    head = b"\x00\x04MQTT" + bytes((value.version, flags)) + two(value.keep_alive_s)
    return packet(0x10, head + (encode_properties(value.properties) if five else b"") + b"".join(body))


def encode_connack(value: p.Connack, version: int = V5) -> bytes:
    return packet(0x20, bytes((value.session_present, value.reason)) + _properties(value.properties, version))


def encode_publish(value: p.Publish, version: int = V5) -> bytes:
    first = 0x30 | value.dup << 3 | value.qos << 1 | value.retain
    packet_id = two(value.packet_id) if value.qos else b""
    body = b"".join((binary(value.topic), packet_id, _properties(value.properties, version), value.payload))
    return packet(first, body)


def publish_qos1(topic: bytes, packet_id: bytes, properties: bytes, payload: bytes) -> bytes:
    """A PUBLISH of MQTT 5 at QoS 1 from parts that are encoded already: for who sends many.

    `topic` with its length, `packet_id` two bytes, `properties` without their length.
    """
    size = len(topic) + 3 + len(payload)
    if not properties:
        return b"2%b%b%b\0%b" % (varint(size), topic, packet_id, payload)
    before = varint(len(properties))
    return b"".join(
        (b"2", varint(size - 1 + len(before) + len(properties)), topic, packet_id, before, properties, payload)
    )


def repeated(publish: bytes) -> bytes:
    """The same PUBLISH, marked as sent again."""
    return bytes((publish[0] | DUP,)) + publish[1:]


def pubacks(packet_ids: list[bytes]) -> bytes:
    """PUBACKs of success for packet ids of two bytes each, joined."""
    return _PUBACK + _PUBACK.join(packet_ids) if packet_ids else b""


_ACKS: Final = {p.Puback: 0x40, p.Pubrec: 0x50, p.Pubrel: 0x62, p.Pubcomp: 0x70}


def encode_ack(value: p.Puback | p.Pubrec | p.Pubrel | p.Pubcomp, version: int = V5) -> bytes:
    return packet(_ACKS[type(value)], two(value.packet_id) + _reason(value.reason, value.properties, version))


def encode_subscribe(value: p.Subscribe, version: int = V5) -> bytes:
    body = two(value.packet_id) + _properties(value.properties, version)
    return packet(0x82, body + b"".join(text(one.filter) + _options(one, version) for one in value.subscriptions))


def encode_suback(value: p.Suback, version: int = V5) -> bytes:
    return packet(0x90, two(value.packet_id) + _properties(value.properties, version) + bytes(value.reasons))


def encode_unsubscribe(value: p.Unsubscribe, version: int = V5) -> bytes:
    body = two(value.packet_id) + _properties(value.properties, version)
    return packet(PacketType.UNSUBSCRIBE << 4 | 2, body + b"".join(map(text, value.filters)))


def encode_unsuback(value: p.Unsuback, version: int = V5) -> bytes:
    reasons = _properties(value.properties, version) + bytes(value.reasons) if version == V5 else b""
    return packet(0xB0, two(value.packet_id) + reasons)


def encode_disconnect(value: p.Disconnect, version: int = V5) -> bytes:
    return packet(0xE0, _reason(value.reason, value.properties, version))


def _properties(properties: Properties, version: int) -> bytes:
    return encode_properties(properties) if version == V5 else b""


def _reason(reason: int, properties: Properties, version: int) -> bytes:
    if version != V5 or not (reason or properties):
        return b""
    return bytes((reason,)) + (encode_properties(properties) if properties else b"")


def _options(one: p.Subscription, version: int) -> bytes:
    if version != V5:
        return bytes((one.qos,))
    return bytes((one.qos | one.no_local << 2 | one.retain_as_published << 3 | one.retain_handling << 4,))
