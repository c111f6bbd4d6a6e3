"""Bodies to packets. Total: any bytes give a packet or MalformedPacketError."""

from collections.abc import Callable
from typing import Final

from runtime.mqtt import packets as p
from runtime.mqtt.properties import WILL, decode_properties
from runtime.mqtt.wire import V5, V311, MalformedPacketError, PacketType, Reader, UnsupportedVersionError

_MUST_BE: Final = {PacketType.PUBREL: 2, PacketType.SUBSCRIBE: 2, PacketType.UNSUBSCRIBE: 2}
"""The lower bits of the first byte, where they are not 0 and it is no PUBLISH."""


def decode(first: int, body: bytes, version: int = V5) -> p.Packet:
    """The packet of this first byte and body. `version` is V5 or V311; a CONNECT says its own."""
    kind = first >> 4
    if kind == PacketType.PUBLISH:
        return decode_publish(first, body, version)
    decoder = _DECODERS.get(kind)
    if decoder is None or (kind == PacketType.AUTH and version != V5):
        raise MalformedPacketError(f"there is no packet of type {kind}")
    name = PacketType(kind).name
    if first & 15 != _MUST_BE.get(PacketType(kind), 0):
        raise MalformedPacketError(f"{name} has wrong flags")
    reader = Reader(body, name)
    found = decoder(reader, version)
    reader.done()
    return found


def decode_publish(first: int, body: bytes, version: int = V5) -> p.Publish:
    reader, qos = Reader(body, "PUBLISH"), first >> 1 & 3
    if qos == 3:
        raise MalformedPacketError("PUBLISH has QoS 3")
    if first & 8 and not qos:
        raise MalformedPacketError("PUBLISH is marked as repeated at QoS 0")
    topic = reader.utf8()
    packet_id = reader.packet_id() if qos else 0
    properties = decode_properties(reader, PacketType.PUBLISH) if version == V5 else {}
    if b"+" in topic or b"#" in topic or not (topic or "topic_alias" in properties):
        raise MalformedPacketError("PUBLISH has an invalid topic")
    return p.Publish(topic, reader.rest(), qos, packet_id, bool(first & 1), bool(first & 8), properties)


def _connect(reader: Reader, _: int) -> p.Connect:
    name, version = reader.binary(), reader.number(1)
    if name != b"MQTT" or version not in (V311, V5):
        raise UnsupportedVersionError(name, version)
    flags, keep_alive_s = reader.number(1), reader.number(2)
    named, secret = bool(flags & 128), bool(flags & 64)
    if flags & 1 or flags & 0x18 == 0x18 or (not flags & 4 and flags & 0x38) or (version == V311 and secret > named):
        raise MalformedPacketError("CONNECT has wrong flags")
    properties = decode_properties(reader, PacketType.CONNECT) if version == V5 else {}
    client_id = reader.text()
    return p.Connect(
        client_id,
        bool(flags & 2),
        keep_alive_s,
        will=_will(reader, flags, version) if flags & 4 else None,
        username=reader.text() if named else None,
        password=reader.binary() if secret else None,
        properties=properties,
        version=version,
    )


def _will(reader: Reader, flags: int, version: int) -> p.Will:
    properties = decode_properties(reader, WILL) if version == V5 else {}
    topic, payload = reader.utf8(), reader.binary()
    if not topic or b"+" in topic or b"#" in topic:
        raise MalformedPacketError("CONNECT has a will with an invalid topic")
    return p.Will(topic, payload, flags >> 3 & 3, bool(flags & 0x20), properties)


def _connack(reader: Reader, version: int) -> p.Connack:
    flags, reason = reader.number(1), reader.number(1)
    if flags > 1:
        raise MalformedPacketError("CONNACK has wrong flags")
    properties = decode_properties(reader, PacketType.CONNACK) if version == V5 and reader.more else {}
    return p.Connack(bool(flags), reason, properties)


Ack = p.Puback | p.Pubrec | p.Pubrel | p.Pubcomp


def _ack(make: Callable[..., Ack], kind: PacketType) -> Callable[[Reader, int], Ack]:
    def read(reader: Reader, version: int) -> Ack:
        packet_id = reader.packet_id()
        return make(packet_id, *_reason(reader, kind, version))

    return read


def _reason(reader: Reader, kind: PacketType, version: int) -> tuple[int, dict[str, object]]:
    """Both may be left out, which means success."""
    if version != V5 or not reader.more:
        return 0, {}
    reason = reader.number(1)
    return reason, decode_properties(reader, kind) if reader.more else {}


def _subscribe(reader: Reader, version: int) -> p.Subscribe:
    packet_id = reader.packet_id()
    properties = decode_properties(reader, PacketType.SUBSCRIBE) if version == V5 else {}
    found = [_subscription(reader, version)]
    while reader.more:
        found.append(_subscription(reader, version))
    return p.Subscribe(packet_id, tuple(found), properties)


def _subscription(reader: Reader, version: int) -> p.Subscription:
    topic_filter, options = _filter(reader), reader.number(1)
    qos, handling = options & 3, options >> 4 & 3
    if qos == 3 or handling == 3 or options & (0xC0 if version == V5 else 0xFC):
        raise MalformedPacketError("SUBSCRIBE has wrong options")
    return p.Subscription(topic_filter, qos, bool(options & 4), bool(options & 8), handling)


def _filter(reader: Reader) -> str:
    found = reader.text()
    if not found:
        raise MalformedPacketError(f"{reader.what} has an empty filter")
    return found


def _suback(reader: Reader, version: int) -> p.Suback:
    packet_id = reader.packet_id()
    properties = decode_properties(reader, PacketType.SUBACK) if version == V5 else {}
    return p.Suback(packet_id, _reasons(reader), properties)


def _unsubscribe(reader: Reader, version: int) -> p.Unsubscribe:
    packet_id = reader.packet_id()
    properties = decode_properties(reader, PacketType.UNSUBSCRIBE) if version == V5 else {}
    found = [_filter(reader)]
    while reader.more:
        found.append(_filter(reader))
    return p.Unsubscribe(packet_id, tuple(found), properties)


def _unsuback(reader: Reader, version: int) -> p.Unsuback:
    packet_id = reader.packet_id()
    if version != V5:
        return p.Unsuback(packet_id)
    properties = decode_properties(reader, PacketType.UNSUBACK)
    return p.Unsuback(packet_id, _reasons(reader), properties)


def _reasons(reader: Reader) -> tuple[int, ...]:
    found = tuple(reader.rest())
    if not found:
        raise MalformedPacketError(f"{reader.what} has no reason code")
    return found


def _disconnect(reader: Reader, version: int) -> p.Disconnect:
    return p.Disconnect(*_reason(reader, PacketType.DISCONNECT, version))


def _auth(reader: Reader, version: int) -> p.Auth:
    return p.Auth(*_reason(reader, PacketType.AUTH, version))


_DECODERS: Final[dict[int, Callable[[Reader, int], p.Packet]]] = {
    PacketType.CONNECT: _connect,
    PacketType.CONNACK: _connack,
    PacketType.PUBACK: _ack(p.Puback, PacketType.PUBACK),
    PacketType.PUBREC: _ack(p.Pubrec, PacketType.PUBREC),
    PacketType.PUBREL: _ack(p.Pubrel, PacketType.PUBREL),
    PacketType.PUBCOMP: _ack(p.Pubcomp, PacketType.PUBCOMP),
    PacketType.SUBSCRIBE: _subscribe,
    PacketType.SUBACK: _suback,
    PacketType.UNSUBSCRIBE: _unsubscribe,
    PacketType.UNSUBACK: _unsuback,
    PacketType.PINGREQ: lambda reader, version: p.Pingreq(),
    PacketType.PINGRESP: lambda reader, version: p.Pingresp(),
    PacketType.DISCONNECT: _disconnect,
    PacketType.AUTH: _auth,
}
