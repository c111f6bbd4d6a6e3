"""Content-Encoding: bounded, whole or refused."""

import gzip
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bridge.http.core.encodings import decode
from bridge.http.errors import Refusal

LIMIT = 1 << 20
NAMES = ("gzip", "zstd")


def encode(name: str, data: bytes) -> bytes:
    return gzip.compress(data, mtime=0) if name == "gzip" else zstandard.ZstdCompressor().compress(data)


def refused(name: str, data: bytes, limit: int = LIMIT) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decode(name, data, limit)
    return caught.value


@given(st.sampled_from(NAMES), st.lists(st.binary(max_size=2_000), min_size=1, max_size=4))
def test_what_was_encoded_comes_out_in_one_part_or_several(name: str, parts: list[bytes]) -> None:
    assert decode(name, b"".join(encode(name, part) for part in parts), LIMIT) == b"".join(parts)


@pytest.mark.parametrize("name", NAMES)
def test_every_cut_is_noticed(name: str) -> None:
    whole = encode(name, b'{"temperature":21.5}' * 20)
    for end in range(1, len(whole)):
        assert refused(name, whole[:end]).status == 400


@pytest.mark.parametrize("name", NAMES)
def test_the_limit_is_exact(name: str) -> None:
    assert len(decode(name, encode(name, bytes(1_000)), 1_000)) == 1_000
    assert refused(name, encode(name, bytes(1_001)), 1_000).status == 413


@pytest.mark.parametrize("name", NAMES)
def test_a_bomb_is_refused_after_the_limit(name: str) -> None:
    assert refused(name, encode(name, bytes(64 << 20))).status == 413


def test_a_zstd_frame_that_wants_a_huge_window_is_refused() -> None:
    long = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    ).compressobj()
    body = long.compress(b"a" * 100) + long.flush()
    assert refused("zstd", body).status == 400


@pytest.mark.parametrize("name", NAMES)
def test_a_crowd_of_empty_parts_is_refused(name: str) -> None:
    assert refused(name, encode(name, b"") * 10_000).status == 400


@given(st.sampled_from(NAMES), st.binary(max_size=200))
def test_anything_else_is_refused_and_nothing_raises(name: str, data: bytes) -> None:
    status = 200
    try:
        decode(name, data, LIMIT)
    except Refusal as refusal:
        status = refusal.status
    assert status in (200, 400, 413)


def test_names_are_matched_without_case_and_others_refused() -> None:
    assert decode(" GZip ", encode("gzip", b"x"), LIMIT) == b"x"
    assert decode("identity", b"x", LIMIT) == decode("", b"x", LIMIT) == b"x"
    for name, data in (("br", b""), ("deflate", zlib.compress(b"x")), ("gzip, gzip", encode("gzip", b"x"))):
        refusal = refused(name, data)
        assert refusal.status == 415 and refusal.headers == {"Accept-Encoding": "gzip, zstd"}
