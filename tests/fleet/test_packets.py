"""MQTT 5 as bytes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.fleet import packets


@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=300)), max_size=8), st.data())
@settings(max_examples=40)
def test_packets_are_found_wherever_the_bytes_are_cut(parts: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    sent = [packets.publish(packets.text(topic), b"\x00\x07", b"", payload) for topic, payload in parts]
    stream, found, rest = b"".join(sent), [], b""
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        whole, rest = packets.split(rest + stream[:size])
        found += [packets.published(first, body) for first, body in whole]
        stream = stream[size:]
    assert rest == b""
    assert found == [(topic, b"\x00\x07", payload) for topic, payload in parts]


@given(st.binary(max_size=40), st.binary(max_size=200), st.binary(max_size=20_000))
def test_properties_and_sizes_of_any_length(topic: bytes, value: bytes, payload: bytes) -> None:
    packet = packets.publish(packets.text(topic), b"\x00\x01", packets.user_property(b"key", value), payload)
    ((first, body),), rest = packets.split(packet)
    assert (first, rest) == (0x32, b"")
    assert packets.published(first, body) == (topic, b"\x00\x01", payload)


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
    ],
)
def test_variable_byte_integers_of_the_specification(number: int, expected: bytes) -> None:
    assert packets.varint(number) == expected


def test_a_length_of_five_bytes_is_refused() -> None:
    with pytest.raises(packets.PacketError):
        packets.split(b"\x30\xff\xff\xff\xff\x01")


def test_a_publish_that_ends_too_early_is_refused() -> None:
    with pytest.raises(packets.PacketError):
        packets.published(0x32, b"\x00\x01a\x00\x01\x80")


def test_a_repeat_differs_by_one_bit() -> None:
    packet = packets.publish(packets.text(b"d/a/telemetry/b"), b"\x00\x01", b"", b"x")
    assert packets.again(packet) == b"\x3a" + packet[1:]


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (b"", 65_535),
        (b"\x21\x00\x14", 20),
        (b"\x12\x00\x03abc\x22\x00\x0a\x21\x01\x00", 256),
        (b"\x26\x00\x01a\x00\x02bc\x24\x01\x21\x00\x05", 5),
    ],
)
def test_the_receive_maximum_is_found_among_other_properties(properties: bytes, expected: int) -> None:
    assert packets.receive_maximum(b"\x00\x00" + packets.varint(len(properties)) + properties) == expected
