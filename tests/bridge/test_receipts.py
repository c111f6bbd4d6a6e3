"""End-to-end acknowledgement and properties, as values."""

from itertools import pairwise
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.rows import Properties
from bridge.mqtt.core.properties import PropertyCache, parse
from bridge.mqtt.core.receipts import ranges, receipts
from runtime.mqtt import V5
from runtime.mqtt.properties import encode_properties
from runtime.mqtt.wire import PacketType, read_varint
from tests.runtime.mqtt.packets import properties


@given(st.lists(st.integers(0, 60)))
def test_ranges_hold_exactly_the_numbers(numbers: list[int]) -> None:
    found = ranges(numbers)
    assert [n for first, last in found for n in range(first, last + 1)] == sorted(set(numbers))
    assert all(after[0] > before[1] + 1 for before, after in pairwise(found))


def test_one_message_a_device_and_boot() -> None:
    asked = [(b"a", Properties(boot=b"1", seq=b"%d" % s, ack=True)) for s in (4, 2, 3, 9, 3)]
    asked += [(b"a", Properties(boot=b"2", seq=b"0", ack=True)), (b"b", Properties(boot=b"1", seq=b"7", ack=True))]
    assert {(topic, orjson.loads(body)["boot"]): orjson.loads(body)["ranges"] for topic, body in receipts(asked)} == {
        ("c/a/ack", 1): [[2, 4], [9, 9]],
        ("c/a/ack", 2): [[0, 0]],
        ("c/b/ack", 1): [[7, 7]],
    }


def test_what_nobody_could_match_gets_no_answer() -> None:
    wrong = [
        Properties(boot=b, seq=s, ack=True) for b, s in [(None, b"1"), (b"1", None), (b"-1", b"1"), (b"1", b"1.0")]
    ]
    wrong += [Properties(boot=b"9" * 19, seq=b"1", ack=True), Properties(boot=b"1", seq="٣".encode(), ack=True)]
    assert receipts([(b"a", p) for p in wrong]) == []
    assert (
        receipts([(d, Properties(boot=b"1", seq=b"1", ack=True)) for d in (b"", b"A", b"a b", b"\xff", b"x" * 65)])
        == []
    )


def test_the_cache_of_properties_keeps_what_repeats_and_stays_bounded() -> None:
    cache = PropertyCache(size=10)
    for n in range(1000):
        cache.get(b"\x26\x00\x03seq\x00\x04%04d" % n)
        cache.get(b"\x03\x00\x04%04d" % n)
        cache.get(b"\x03\x01\x40" + b"x" * 320)
    assert len(cache._known) <= 10 and all(b"seq" not in block for block in cache._known)
    assert max(map(len, cache._known)) <= 256
    again = cache.get(b"\x03\x00\x040999")
    assert again is cache.get(b"\x03\x00\x040999") and again == Properties(b"0999")


TEXT = st.binary(max_size=12).map(lambda data: len(data).to_bytes(2, "big") + data)
NAME = st.sampled_from([b"ts", b"boot", b"seq", b"ack", b"other"]).map(lambda d: len(d).to_bytes(2, "big") + d)
PROPERTY = st.one_of(
    st.tuples(st.just(b"\x26"), NAME, TEXT).map(b"".join),
    st.tuples(st.sampled_from([b"\x03", b"\x08", b"\x09"]), TEXT).map(b"".join),
    st.sampled_from(
        [b"\x01\x01", b"\x02\x00\x00\x00\x26", b"\x23\x00\x03", b"\x0b\x86\x01", b"\x26\x00\x03seq\x00\x0217"]
    ),
    st.just(b"\x09\x00\x09\x26\x00\x03seq\x00\x011"),
)


@given(st.lists(PROPERTY, max_size=6).map(b"".join), st.integers(0, 80), st.booleans())
def test_what_the_cache_says_is_what_parsing_says(block: bytes, cut: int, whole: bool) -> None:
    cache = PropertyCache()
    block = block if whole else block[:cut]
    try:
        expected = parse(block)
    except (ValueError, IndexError):
        expected = None
    assert [cache.get(block) for _ in range(2)] == [expected] * 2


@given(properties(PacketType.PUBLISH, V5))
def test_the_bridges_reading_of_properties_is_the_codecs(sent: dict[str, Any]) -> None:
    names = ("ts", "boot", "seq", "ack")
    pairs = sent.get("user_property", ())
    sent |= {"user_property": tuple((names[len(k) % 4] if len(k) % 2 else k, v) for k, v in pairs)} if pairs else {}
    block = encode_properties(sent)
    found = parse(block[read_varint(block, 0)[1] :]) or Properties()
    last = {key: value.encode() for key, value in sent.get("user_property", ())}
    kind = sent["content_type"].encode() if "content_type" in sent else None
    assert found == Properties(kind, last.get("ts"), last.get("boot"), last.get("seq"), last.get("ack") == b"1")
