"""The stored form of a state: exact, and refused when a single bit differs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.stage.provenance import Highest
from runtime.stage.snapshot import Snapshot, SnapshotError, Written, decode, encode, fingerprint, key, turn_after

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


@given(_snapshots, st.binary(max_size=2000))
def test_what_is_stored_comes_back_exactly(snapshot: Snapshot, state: bytes) -> None:
    assert decode(encode(snapshot, state)) == (snapshot, state)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_any_changed_byte_is_noticed(state: bytes, data: st.DataObject) -> None:
    value = bytearray(encode(Snapshot("toy", 0, 1, "id"), state))
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SnapshotError):
        decode(bytes(value))


@given(st.binary(max_size=100))
def test_anything_else_is_no_snapshot(value: bytes) -> None:
    with pytest.raises(SnapshotError):
        decode(value)


@given(st.binary(max_size=100), st.data())
def test_a_snapshot_cut_short_is_no_snapshot(state: bytes, data: st.DataObject) -> None:
    value = encode(Snapshot("toy", 0, 1, "id"), state)
    with pytest.raises(SnapshotError):
        decode(value[: data.draw(st.integers(0, len(value) - 1))])


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
