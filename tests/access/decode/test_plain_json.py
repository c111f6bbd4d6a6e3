"""Plain JSON, a message at a time: what a payload means, and by which rule it is refused."""

import math
from typing import Any

import pytest

from streams.access.decode.formats.plain_json import decode
from streams.access.decode.limits import Invalid
from streams.access.decode.message import NO_TIME
from tests.access.decode.payloads import DEEP, LARGE

MEANINGS: dict[bytes, tuple[int, int, list[tuple[Any, ...]]]] = {
    b'{"temperature":21.5}': (-1, -1, [("temperature", 21.5, None, NO_TIME, None)]),
    b'{"a":1,"b":true,"c":false,"d":null}': (
        -1,
        -1,
        [("a", 1.0, None, NO_TIME, None), ("b", 1.0, None, NO_TIME, None), ("c", 0.0, None, NO_TIME, None)],
    ),
    b'{"boot":3,"seq":17,"ts":1763900000123,"a":1}': (3, 17, [("a", 1.0, None, 1763900000123, None)]),
    b'{"motor":{"rpm":5,"bearing":{"x":0.25}}}': (
        -1,
        -1,
        [("motor.rpm", 5.0, None, NO_TIME, None), ("motor.bearing.x", 0.25, None, NO_TIME, None)],
    ),
    b'[{"ts":1,"a":1,"seq":4},{"ts":"1970-01-01T00:00:00.002Z","a":2},{"a":3}]': (
        -1,
        4,
        [("a", 1.0, None, 1, None), ("a", 2.0, None, 2, None), ("a", 3.0, None, NO_TIME, None)],
    ),
    b'[{"device":"child-1","a":1},{"a":2}]': (
        -1,
        -1,
        [("a", 1.0, None, NO_TIME, "child-1"), ("a", 2.0, None, NO_TIME, None)],
    ),
    b'{"a":1,"a":2}': (-1, -1, [("a", 2.0, None, NO_TIME, None)]),
    b'{"seq":0,"boot":0,"a":-0.0}': (0, 0, [("a", 0.0, None, NO_TIME, None)]),
    b'{"ts":-86400000,"a":1}': (-1, -1, [("a", 1.0, None, -86_400_000, None)]),
    b'{"ts":"2100-01-01","a":1}': (-1, -1, [("a", 1.0, None, 4_102_444_800_000, None)]),
    b'{"ts":"2026-11-23T14:00:00.5+02:00","a":1}': (-1, -1, [("a", 1.0, None, 1_795_435_200_500, None)]),
    b'{"a":9223372036854774784}': (-1, -1, [("a", 9223372036854774784.0, None, NO_TIME, None)]),
}


@pytest.mark.parametrize("payload", MEANINGS, ids=lambda p: p.decode()[:50])
def test_a_payload_means_its_readings(payload: bytes) -> None:
    assert decode(payload, 0) == MEANINGS[payload]


def test_a_text_is_a_reading_without_number() -> None:
    ((metric, value, text, _, _),) = decode('{"state":"°C"}'.encode(), 0).readings
    assert (metric, text) == ("state", "°C") and math.isnan(value)


REFUSED: dict[str, list[bytes]] = {
    "json": [b"", b"{", b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":1e400}', b'{"a":01}', b"1],[2", b'{"a":1},{"b":2}'],
    "utf8": [b'{"a":"\xff"}', b"\xff\xfe", b'{"\xed\xa0\x80":1}'],
    "shape": [b"5", b"[]", b"{}", b'{"seq":1}', b'[{"a":1},5]', b'{"a":[1]}', b'{"a":{"b":{"c":{"d":{"e":1}}}}}'],
    "metric_name": [b'{"a b":1}', b'{"":1}', b'{"a/b":1}', b'{"' + b"k" * 65 + b'":1}', '{"é":1}'.encode()],
    "number": [b'{"a":9223372036854775808}', b'{"a":-1e300}', b'{"a":123456789012345678901234567890}'],
    "ts": [b'{"ts":"now","a":1}', b'{"ts":1.5,"a":1}', b'{"ts":true,"a":1}', b'{"ts":9007199254740992,"a":1}'],
    "seq": [b'{"seq":-1,"a":1}', b'{"seq":"5","a":1}', b'[{"seq":1,"a":1},{"seq":2,"a":1}]'],
    "boot": [b'{"boot":1.5,"a":1}', b'{"boot":9007199254740992,"a":1}', b'[{"a":1},{"boot":0,"a":1}]'],
    "device": [b'{"device":"A","a":1}', b'{"device":1,"a":1}'],
}


@pytest.mark.parametrize(("rule", "payload"), [(rule, payload) for rule, found in REFUSED.items() for payload in found])
def test_a_payload_that_breaks_a_rule_is_refused_by_that_rule(rule: str, payload: bytes) -> None:
    with pytest.raises(Invalid, match=f"^{rule}: "):
        decode(payload, 0)


def test_a_refused_message_still_says_which_it_is() -> None:
    with pytest.raises(Invalid) as caught:
        decode(b'{"boot":1,"seq":2,"a b":3}', 0)
    assert (caught.value.boot, caught.value.seq) == (1, 2)


@pytest.mark.parametrize("payload", DEEP, ids=len)
def test_deep_payloads_are_refused(payload: bytes) -> None:
    with pytest.raises(Invalid, match=r"^(shape|json): "):
        decode(payload, 0)


def test_readings_of_an_object_and_of_a_message_are_bounded() -> None:
    seventy, too_many, most, one_more, long_text = LARGE
    assert len(decode(seventy, 0).readings) == 70
    assert len(decode(most, 0).readings) == 64
    assert len(decode(long_text, 0).readings) == 1
    with pytest.raises(Invalid, match="more than 10000 readings in a message"):
        decode(too_many, 0)
    with pytest.raises(Invalid, match="more than 64 readings in an object"):
        decode(one_more, 0)


@pytest.mark.parametrize("payload", [b'{"a' + b"x" * 1000 + b'":1}', b'{"seq":"' + b"9" * 5000 + b'","a":1}'])
def test_reasons_are_short(payload: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        decode(payload, 0)
    assert len(str(caught.value)) < 160
