"""runtime.mqtt beside other implementations: paho's and gmqtt's bytes are read, and they and mosquitto read ours."""

import socket
from types import SimpleNamespace
from typing import Any

import paho.mqtt.client as paho
import pytest
from gmqtt.client import Message
from gmqtt.mqtt.package import PublishPacket
from gmqtt.mqtt.utils import IdGenerator
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties

from runtime.mqtt import (
    V5,
    V311,
    Connack,
    Connect,
    Publish,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    decode,
    encode,
    encoding,
    split,
)
from runtime.mqtt.properties import NONE, TABLE, decode_properties, encode_properties
from runtime.mqtt.wire import PacketType, Reader
from tests.runtime.mqtt.packets import properties
from tests.servers import MosquittoServer

NAMED = {"content_type": "application/json", "user_property": (("boot", "1"), ("seq", "2"))}
SHARED = [kind for kind in PacketType if kind not in (PacketType.PINGREQ, PacketType.PINGRESP)]


def camel(name: str) -> str:
    if name == "maximum_qos":
        return "MaximumQoS"
    return "".join(word.capitalize() for word in name.split("_"))


@settings(max_examples=300)
@given(st.data(), st.sampled_from(SHARED))
def test_paho_reads_our_properties_and_we_read_its(data: st.DataObject, kind: PacketType) -> None:
    sent = data.draw(properties(kind, V5))
    theirs = PahoProperties(int(kind))
    for name, value in sent.items():
        try:
            setattr(theirs, camel(name), list(value) if name in ("user_property", "subscription_identifier") else value)
        except Exception:  # paho checks some ranges that depend on the meaning
            return
    assert decode_properties(Reader(theirs.pack(), "paho's"), kind) == sent
    back, size = PahoProperties(int(kind)).unpack(encode_properties(sent))
    assert size == len(encode_properties(sent))
    for name, value in sent.items():
        found = getattr(back, camel(name))
        assert (tuple(found) if isinstance(value, tuple) else found) == value


def test_our_table_of_properties_is_pahos() -> None:
    theirs = PahoProperties(PacketTypes.CONNECT)
    by_name = {name.replace(" ", ""): number for name, number in theirs.names.items()}
    assert by_name == {camel(one.name): one.id for one in TABLE}
    for one in TABLE:
        _, packets = theirs.properties[one.id]
        assert {int(kind) or PacketTypes.WILLMESSAGE for kind in one.packets} == set(packets), one.name


@settings(max_examples=100)
@given(st.binary(max_size=200), st.sampled_from([0, 1, 2]), st.booleans(), st.booleans())
def test_gmqtts_publish_is_read(payload: bytes, qos: int, retain: bool, named: bool) -> None:
    named_by: dict[str, Any] = {"content_type": "x", "user_property": ("k", "v")} if named else {}
    message = Message("d/a/telemetry/b", payload, qos, retain, **named_by)
    sender = SimpleNamespace(proto_ver=V5, id_generator=IdGenerator())
    packet_id, packet = PublishPacket.build_package(message, sender)
    ((first, body),), rest = split(bytes(packet))
    found = decode(first, body)
    assert isinstance(found, Publish) and rest == b""
    assert (found.topic, found.payload, found.qos, found.retain) == (b"d/a/telemetry/b", payload, qos, retain)
    assert found.packet_id == (packet_id or 0)
    assert found.properties == ({"content_type": "x", "user_property": (("k", "v"),)} if named else {})


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Any:
    server = MosquittoServer(tmp_path_factory.mktemp("broker"))
    server.start()
    yield server
    server.kill()


class Peer:
    """A client of a few packets, on our codec."""

    def __init__(self, path: str, version: int) -> None:
        self.version, self.rest, self.waiting = version, b"", []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(path)

    def send(self, packet: Any) -> None:
        self.socket.sendall(encode(packet, self.version))

    def next(self) -> Any:
        while not self.waiting:
            whole, self.rest = split(self.rest + self.socket.recv(65_536))
            self.waiting += [decode(first, body, self.version) for first, body in whole]
        return self.waiting.pop(0)


@pytest.mark.parametrize("version", [V5, V311])
def test_mosquitto_speaks_with_us_in_both_versions_and_all_qualities(broker: Any, version: int) -> None:
    user, password = broker.bridge_user, broker.bridge_password.encode()
    peer = Peer(broker.bridge_url.removeprefix("unix://"), version)
    peer.send(Connect("codec", username=user, password=password, keep_alive_s=60, version=version))
    connack = peer.next()
    assert isinstance(connack, Connack) and connack.reason == 0
    peer.send(Subscribe(1, (Subscription("d/#", 2), Subscription("c/#", 1))))
    assert peer.next() == Suback(1, (2, 1))
    props = (
        {"content_type": "application/json", "user_property": (("boot", "1"), ("seq", "2"))} if version == V5 else NONE
    )
    for qos in (0, 1, 2):
        message = Publish(b"c/codec/x", b"payload" * 40, qos, 10 if qos else 0, properties=props)
        peer.send(message)
        seen = []
        while not any(isinstance(one, Publish) for one in seen) or (qos == 2 and len(seen) < 2):
            seen.append(peer.next())
            if type(seen[-1]).__name__ == "Pubrec":
                peer.send(Pubrel(10))
        (found,) = [one for one in seen if isinstance(one, Publish)]
        assert (found.topic, found.payload, dict(found.properties)) == (message.topic, message.payload, dict(props))
        if found.qos == 1:
            peer.socket.sendall(encoding.pubacks([found.packet_id.to_bytes(2, "big")]))
    peer.socket.close()
    assert paho.MQTTv5 == V5 and paho.MQTTv311 == V311
