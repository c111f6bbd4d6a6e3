"""MQTT 5.0 and 3.1.1 as bytes and values: pure, no sockets.

    packets, rest = split(data)                        # whole packets of a stream, and the beginning of the next one
    for first, body in packets:
        packet = decode(first, body, V5)               # Publish(…), Puback(…), …, or MalformedPacketError
    data = encode(Publish(b"d/a/telemetry/b", b"{}", qos=1, packet_id=7), V5)

wire.py        integers, texts, the frame of a packet          properties.py  the table of MQTT 5's properties
packets.py     a NamedTuple per packet                          decoding.py    body -> packet, a function per packet
encoding.py    packet -> bytes, a function per packet

Decoding is total: any bytes give packets, "need more", or MalformedPacketError. What depends on the state of a session
(whether a packet id is in use, who may send what) is the caller's.
"""

from runtime.mqtt.decoding import decode
from runtime.mqtt.encoding import encode
from runtime.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)
from runtime.mqtt.wire import (
    MAX_PACKET_ID,
    V5,
    V311,
    MalformedPacketError,
    PacketType,
    UnsupportedVersionError,
    frame,
    split,
)

__all__ = [
    "MAX_PACKET_ID",
    "V5",
    "V311",
    "Auth",
    "Connack",
    "Connect",
    "Disconnect",
    "MalformedPacketError",
    "Packet",
    "PacketType",
    "Pingreq",
    "Pingresp",
    "Puback",
    "Pubcomp",
    "Publish",
    "Pubrec",
    "Pubrel",
    "Suback",
    "Subscribe",
    "Subscription",
    "Unsuback",
    "Unsubscribe",
    "UnsupportedVersionError",
    "Will",
    "decode",
    "encode",
    "frame",
    "split",
]
