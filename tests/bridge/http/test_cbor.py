"""The check of CBOR against RFC 8949's own examples and against a decoder."""

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.http.core.cbor import MAX_DEPTH, MAX_ITEMS, check
from bridge.http.errors import Refusal

# appendix A, a selection of every kind; appendix F, what is not well-formed
WELL_TEXT = """
00 17 1818 1bffffffffffffffff 20 3903e7 c249010000000000000000 f90000 fb3ff199999999999a fa47c35000 f97e00 f4 f5 f6
f7 f0 f8ff c074323031332d30332d32315432303a30343a30305a d74401020304 40 4401020304 60 62c3bc 64f0908591 80 83010203
8301820203820405 98190102030405060708090a0b0c0d0e0f101112131415161718181819 a0 a201020304 a26161016162820203
5f42010243030405ff 7f657374726561646d696e67ff 9fff 9f018202039f0405ffff bf61610161629f0203ffff
bf6346756ef563416d7421ff 5fff 7fff d9d9f780
"""
WELL = WELL_TEXT.split()
ILL_TEXT = """
18 19 1a 1b 1901 1a010203 38 58 78 98 9a01ff00 b8 d8 f8 f900 41 61 5affffffff00 5bffffffffffffffff010203
7affffffff00 7b7fffffffffffffff010203 81 8181 8200 a1 a20102 a100 a2000000 c0 5f4100 7f6100 9f 9f0102 bf bf01020102
819f 9f8000 9f9f9f9f9fffffffff 9f819f819f9fffffff 1c 1d 1e 3c 5c 5d 7c 9e bc dc fc fd fe f800 f818 f81f 5f00ff
5f21ff 5f6100ff 5f80ff 5fa0ff 5fc000ff 5fe0ff 7f4100ff 5f5f4100ffff 7f7f6100ffff ff 81ff 8200ff a1ff a1ff00 a100ff
a20000ff 9f81ff 9f829f819f9fffffffff bf00ff bf000000ff 1f 3f df c1ff 9fc1ff 0000 61ff 61c3
"""
ILL = ILL_TEXT.split()


@pytest.mark.parametrize("text", WELL)
def test_well_formed_items_pass(text: str) -> None:
    check(bytes.fromhex(text))


@pytest.mark.parametrize("text", ["", *ILL])
def test_others_are_refused_with_a_byte(text: str) -> None:
    data = bytes.fromhex(text)
    with pytest.raises(Refusal) as caught:
        check(data)
    assert caught.value.status == 400 and 0 <= caught.value.place["byte"] <= len(data)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_an_encoder_makes_is_well_formed_and_no_part_of_it_is(value: object) -> None:
    data = cbor2.dumps(value)
    check(data)
    for end in range(min(len(data), 50)):
        with pytest.raises(Refusal):
            check(data[:end])
    with pytest.raises(Refusal) as caught:
        check(data + b"\x00")
    assert caught.value.place["byte"] == len(data)


@given(st.binary(max_size=40))
@example(b"\x9b" + b"\xff" * 8)
def test_a_decoder_takes_only_what_passes(data: bytes) -> None:
    try:
        cbor2.loads(data)
    except Exception:
        return
    # a decoder stops at the end of the first item; it also takes a few forms that the RFC forbids
    assert _why(data) in ("", "CBOR: something follows the data item", "CBOR: a simple value in a form too long for it")


def _why(data: bytes) -> str:
    try:
        check(data)
    except Refusal as refusal:
        return str(refusal)
    return ""


def test_depth_and_number_of_items_are_bounded() -> None:
    check(b"\x81" * (MAX_DEPTH - 2) + b"\x00")
    with pytest.raises(Refusal) as deep:
        check(b"\x81" * 1_000_000)
    with pytest.raises(Refusal) as many:
        check(b"\x9f" + b"\x00" * (MAX_ITEMS + 1) + b"\xff")
    assert (deep.value.status, many.value.status) == (400, 413)
