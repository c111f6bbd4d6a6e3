"""The stored form of a state: exact, and refused when a single bit differs."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.columns.pack import unpack
from runtime.stage.chunks import Chunk, Layout, SnapshotError
from runtime.stage.provenance import Highest
from runtime.stage.snapshot import (
    Manifest,
    Snapshot,
    Written,
    chunk_key,
    decode,
    encode,
    fingerprint,
    is_manifest,
    key,
    turn_after,
)

EXAMPLES = Path(__file__).parent / "examples"

_numbers = st.integers(-1, 2**62)
_highest = st.builds(Highest, _numbers, _numbers)
_snapshots = st.builds(
    Snapshot,
    st.text(max_size=20),
    st.integers(0, 1000),
    st.integers(1, 99),
    st.text(max_size=30),
    _numbers,
    st.integers(0, 2**32 - 1),
    _highest,
    st.dictionaries(st.text(max_size=20), st.builds(Written, _highest, _numbers), max_size=3),
)


_names = st.text("0123456789abcdef-", min_size=1, max_size=20)
_chunks = st.builds(Chunk, _names, st.integers(0, 2**40), st.integers(1, 1 << 22))
_layouts = st.builds(
    Layout, st.sampled_from(["<f8", "|u1"]), st.lists(st.integers(0, 99)).map(tuple), st.lists(_chunks).map(tuple)
)
_manifests = st.builds(
    Manifest,
    _snapshots,
    st.binary(max_size=2000),
    _numbers,
    st.dictionaries(st.text(max_size=9), _layouts, max_size=3),
    st.lists(_names).map(tuple),
    st.lists(_names).map(tuple),
)
SMALL = Manifest(Snapshot("toy", 0, 1, "id"), b"state", 6, {"a": Layout("<f8", (8,), (Chunk("c-w", 5, 64),))}, ("s",))


@given(_manifests)
def test_what_is_stored_comes_back_exactly(manifest: Manifest) -> None:
    assert decode(encode(manifest)) == manifest


def test_any_changed_byte_is_noticed() -> None:
    whole = encode(SMALL)
    for at in range(len(whole)):
        for change in (1, 3, 0x80, 0xFF):
            value = bytearray(whole)
            value[at] ^= change
            with pytest.raises(SnapshotError):
                decode(bytes(value))


@given(st.binary(max_size=100))
def test_anything_else_is_no_snapshot(value: bytes) -> None:
    with pytest.raises(SnapshotError):
        decode(value)


def test_a_snapshot_cut_short_is_no_snapshot() -> None:
    value = encode(SMALL)
    for length in range(len(value)):
        with pytest.raises(SnapshotError):
            decode(value[:length])


def test_a_snapshot_of_version_1_can_still_be_read() -> None:
    found = decode(bytes.fromhex((EXAMPLES / "snapshot-1.hex").read_text()))
    assert found.snapshot == Snapshot(
        "toy", 2, 1, "topic-1", 100, 0xBEEF, Highest(0, 99), {"toy.out": Written(Highest(0, 99), 57)}
    )
    assert (found.arrays, found.previous, found.obsolete) == ({}, (), ())
    meta, arrays = unpack(found.packed)
    assert meta == {"words": ["a", "b"], "time_ms": 1_790_000_000_000}
    assert arrays["counts"].tolist() == [1, 2, 3]
    assert arrays["pairs"].dtype == np.float32 and arrays["pairs"].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_the_stored_example_of_version_2_can_be_read() -> None:
    value = bytes.fromhex((EXAMPLES / "snapshot-2.hex").read_text())
    assert decode(value) == SMALL


def test_the_fingerprint_tells_records_apart() -> None:
    same = fingerprint(5, 1000, b"key", b"value")
    assert same == fingerprint(5, 1000, b"key", b"value")
    others = [(6, 1000, b"key", b"value"), (5, 1001, b"key", b"value"), (5, 1000, b"kez", b"value")]
    assert same not in [fingerprint(*other) for other in [*others, (5, 1000, b"key", b"")]]
    assert fingerprint(5, 1000, None, None) == fingerprint(5, 1000, b"", b"")


def test_two_keys_take_turns_and_the_older_is_overwritten() -> None:
    assert [key(3, turn) for turn in range(4)] == [b"3/a", b"3/b", b"3/a", b"3/b"]
    assert key(3, turn_after(b"3/a")) == b"3/b"
    assert key(3, turn_after(b"3/b")) == b"3/a"


def test_keys_tell_manifests_from_chunks() -> None:
    assert is_manifest(key(3, 0)) and is_manifest(key(3, 1))
    assert chunk_key(3, "0a-b") == b"3/0a-b" and not is_manifest(chunk_key(3, "0a-b"))
