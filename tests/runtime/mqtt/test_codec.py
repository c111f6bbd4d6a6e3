"""runtime.mqtt alone: every packet of both versions there and back, and any bytes."""

from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtime.mqtt import (
    V5,
    V311,
    Connack,
    Connect,
    MalformedPacketError,
    Puback,
    Publish,
    UnsupportedVersionError,
    decode,
    encode,
    encoding,
    frame,
    split,
    wire,
)
from runtime.mqtt.properties import TABLE, decode_properties, encode_properties, user_property
from tests.runtime.mqtt.packets import ids, packets, properties, versions


@settings(max_examples=200)
@given(st.data(), versions)
def test_every_packet_comes_back_as_it_was(data: st.DataObject, version: int) -> None:
    packet = data.draw(packets(version))
    ((first, body),), rest = split(encode(packet, version))
    assert rest == b""
    assert decode(first, body, version) == packet


@settings(max_examples=50)
@given(st.data(), versions)
def test_packets_are_found_wherever_the_bytes_are_cut(data: st.DataObject, version: int) -> None:
    sent = data.draw(st.lists(packets(version), max_size=6))
    stream, found, rest = b"".join(encode(one, version) for one in sent), [], b""
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        whole, rest = split(rest + stream[:size])
        found += [decode(first, body, version) for first, body in whole]
        stream = stream[size:]
    assert rest == b"" and found == sent


@settings(max_examples=600)
@given(st.binary(max_size=60), versions)
@example(b"\x30\xff\xff\xff\xff\x01", V5)
def test_any_bytes_are_packets_or_the_beginning_of_one_or_malformed(data: bytes, version: int) -> None:
    with suppress(MalformedPacketError):
        whole, rest = split(data)
        for first, body in whole:
            decode(first, body, version)
        borders = frame(rest)
        assert borders is None or borders[1] > len(rest)


@settings(max_examples=200)
@given(st.data(), versions)
def test_a_packet_with_a_changed_byte_or_a_cut_body_is_a_packet_or_malformed(data: st.DataObject, version: int) -> None:
    ((first, body),), _ = split(encode(data.draw(packets(version)), version))
    at = data.draw(st.integers(0, len(body)))
    changed = body[:at] + data.draw(st.binary(max_size=2)) + body[at + data.draw(st.integers(0, 2)) :]
    with suppress(MalformedPacketError):
        decode(first ^ data.draw(st.sampled_from([0, 0, 1, 2, 8])), changed, version)


@given(st.data())
def test_properties_outside_their_packets_and_twice_are_refused(data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(TABLE))
    kind = data.draw(st.sampled_from(sorted({k for other in TABLE for k in other.packets})))
    given_ = data.draw(properties(kind, V5).filter(lambda found: one.name in found)) if kind in one.packets else None
    if given_ is None:
        block = encode_properties(data.draw(properties(next(iter(one.packets)), V5).filter(lambda f: one.name in f)))
        with pytest.raises(MalformedPacketError, match="cannot have"):
            decode_properties(wire.Reader(block, "x"), kind)
    elif one.name not in ("user_property", "subscription_identifier"):
        twice = encode_properties({one.name: given_[one.name]})[1:] * 2
        with pytest.raises(MalformedPacketError, match="twice"):
            decode_properties(wire.Reader(wire.varint(len(twice)) + twice, "x"), kind)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, b"\x00"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (16_383, b"\xff\x7f"),
        (16_384, b"\x80\x80\x01"),
        (2_097_151, b"\xff\xff\x7f"),
        (2_097_152, b"\x80\x80\x80\x01"),
        (268_435_455, b"\xff\xff\xff\x7f"),
    ],
)
def test_variable_byte_integers_of_the_specification(number: int, expected: bytes) -> None:
    assert wire.varint(number) == expected
    assert wire.read_varint(expected, 0) == (number, len(expected))
    for cut in range(len(expected)):
        with pytest.raises(IndexError):
            wire.read_varint(expected[:cut], 0)


def test_what_no_packet_can_hold_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="268435456"):
        wire.varint(268_435_456)
    with pytest.raises(ValueError, match="65536"):
        wire.binary(bytes(65_536))


@pytest.mark.parametrize(
    ("first", "body"),
    [
        (0x00, b""),
        (0x36, b"\x00\x01a\x00\x01\x00"),  # QoS 3
        (0x38, b"\x00\x01a\x00"),  # a repeat at QoS 0
        (0x32, b"\x00\x01a\x00\x00\x00"),  # packet id 0
        (0x30, b"\x00\x00\x00"),  # neither topic nor alias
        (0x30, b"\x00\x02a#\x00"),
        (0x30, b"\x00\x02a\xff\x00"),
        (0x30, b"\x00\x02a\x00\x00"),
        (0x60, b"\x00\x01"),  # PUBREL with wrong flags
        (0x82, b"\x00\x01\x00"),  # nothing subscribed to
        (0x82, b"\x00\x01\x00\x00\x01a\x03"),
        (0xC0, b"x"),
        (0x20, b"\x02\x00\x00"),
        (0x10, b"\x00\x04MQTT\x05\x03\x00\x00\x00\x00\x00"),  # reserved flag
        (0x10, b"\x00\x04MQTT\x04\x40\x00\x00\x00\x01a\x00\x01b"),  # a password without a user in 3.1.1
    ],
)
def test_what_the_specification_forbids_is_malformed(first: int, body: bytes) -> None:
    with pytest.raises(MalformedPacketError):
        decode(first, body)


def test_a_connect_of_another_version_says_which() -> None:
    with pytest.raises(UnsupportedVersionError, match="level 3") as raised:
        decode(0x10, b"\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01a")
    assert raised.value.level == 3


@given(st.binary(max_size=40), st.binary(max_size=200), st.binary(max_size=20_000), ids)
def test_the_quick_ways_to_write_many_packets_write_the_same(
    topic: bytes, value: bytes, payload: bytes, packet_id: int
) -> None:
    user = value.hex()
    two = wire.two(packet_id)
    for found, block in (({}, b""), ({"user_property": (("key", user),)}, user_property(b"key", user.encode()))):
        whole = encode(Publish(topic, payload, 1, packet_id, properties=found))
        assert encoding.publish_qos1(wire.binary(topic), two, block, payload) == whole
        again = encode(Publish(topic, payload, 1, packet_id, dup=True, properties=found))
        assert encoding.repeated(whole) == again
    assert encoding.pubacks([two, two]) == 2 * encoding.encode_ack(Puback(packet_id))
    assert encoding.pubacks([]) == b""


def test_the_receive_maximum_is_found_among_other_properties() -> None:
    found = decode(0x20, b"\x00\x00\x0c" + b"\x12\x00\x03abc" + b"\x22\x00\x0a" + b"\x21\x01\x00")
    assert isinstance(found, Connack) and found.properties["receive_maximum"] == 256


def test_defaults_are_what_most_packets_want() -> None:
    assert encode(Connect("a"), V5) == b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01a"
    assert encode(Connect("a", version=V311)) == b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a"
