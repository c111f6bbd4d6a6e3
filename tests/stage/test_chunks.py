"""Large arrays are stored in pieces: exact, only what changed, and nothing that a manifest needs is ever dropped."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.stage.chunks import (
    Assembly,
    Chunk,
    ChunkIndex,
    Cut,
    Layout,
    SnapshotError,
    compress,
    digest,
    divide,
    expand,
)

CUT = Cut(chunk_bytes=64, inline_bytes=100)
_kinds = st.sampled_from(["<i8", "<f4", "|u1", "<i2", "|b1", "<U3", "<M8[ms]"])
_shapes = st.sampled_from([(0,), (3,), (17,), (40,), (5, 4), (16, 3), (0, 4), ()])


@st.composite
def _arrays(draw: st.DrawFn) -> dict[str, Any]:
    found = {}
    for name in draw(st.lists(st.sampled_from("abcdef"), unique=True)):
        kind, shape = np.dtype(draw(_kinds)), draw(_shapes)
        size = int(np.prod(shape, dtype=int)) * kind.itemsize
        seed = draw(st.integers(0, 3))
        raw = np.random.default_rng(seed).integers(0, 2, size, np.uint8)
        found[name] = raw.view(kind).reshape(shape) if size else np.zeros(shape, kind)
    return found


class Store:
    """What is stored: by name, the bytes; offsets count up."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.offset = 0
        self.writes = 0

    def store(self, arrays: dict[str, Any], index: ChunkIndex) -> tuple[dict[str, Any], dict[str, Layout], ChunkIndex]:
        """As the frame does it: (inline arrays, layouts, index after)."""
        inline, large = divide(arrays, CUT)
        layouts = {}
        for name, pieces in large.items():
            chunks = tuple(self._chunk(piece, index) for piece in pieces)
            layouts[name] = Layout(arrays[name].dtype.str, arrays[name].shape, chunks)
        return inline, layouts, index.after({c for layout in layouts.values() for c in layout.chunks})

    def _chunk(self, piece: memoryview, index: ChunkIndex) -> Chunk:
        found = index.find(digest(piece))
        if found is None:
            found = Chunk(f"{digest(piece)}-w", self.offset, len(piece))
            self.kept[found.name] = compress(piece)
            self.offset, self.writes = self.offset + 1, self.writes + 1
            index.wrote(found)
        return found

    def drop(self, index: ChunkIndex) -> None:
        for name in index.obsolete:
            self.kept.pop(name, None)
        index.obsolete.clear()

    def load(self, inline: dict[str, Any], layouts: dict[str, Layout]) -> dict[str, Any]:
        assembly = Assembly(layouts)
        for chunk in assembly.missing:
            assembly.put(chunk, self.kept[chunk.name])
        assert not assembly.missing
        return inline | assembly.arrays


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        one[n].dtype == other[n].dtype and one[n].shape == other[n].shape and one[n].tobytes() == other[n].tobytes()
        for n in one
    )


@given(_arrays())
def test_arrays_come_back_exactly(arrays: dict[str, Any]) -> None:
    store = Store()
    inline, layouts, _ = store.store(arrays, ChunkIndex())
    assert same(store.load(inline, layouts), arrays)
    assert sum(a.nbytes for a in inline.values()) <= CUT.inline_bytes
    assert all(a.nbytes <= arrays[name].nbytes for a in inline.values() for name in layouts), (
        "the smallest stay together"
    )


@given(st.lists(_arrays(), min_size=2, max_size=6), st.data())
def test_the_two_newest_manifests_can_always_be_read_and_no_more_is_kept(
    states: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Doomed chunks are dropped at any time after their manifest is stored, or not at all for now."""
    store, index = Store(), ChunkIndex()
    stored: list[tuple[dict[str, Any], dict[str, Any], dict[str, Layout]]] = []
    for arrays in states:
        inline, layouts, index = store.store(arrays, index)
        stored.append((arrays, inline, layouts))
        if data.draw(st.booleans()):
            store.drop(index)
        for before, small, large in stored[-2:]:
            assert same(store.load(small, large), before)
    store.drop(index)
    needed = {c.name for _, _, large in stored[-2:] for layout in large.values() for c in layout.chunks}
    assert set(store.kept) == needed


def test_an_array_that_grows_at_its_end_changes_its_last_chunk_only() -> None:
    store, index = Store(), ChunkIndex()
    whole = np.random.default_rng(1).integers(0, 99, 100)  # 800 bytes: 12 chunks and a half
    _, _, index = store.store({"a": whole[:90]}, index)
    before = store.writes
    _, _, index = store.store({"a": whole}, index)
    assert (before, store.writes - before) == (12, 2)
    store.store({"a": whole}, index)
    assert store.writes - before == 2


def test_equal_chunks_are_stored_once() -> None:
    store = Store()
    inline, layouts, _ = store.store({"a": np.zeros(64), "b": np.zeros(32)}, ChunkIndex())
    assert store.writes == 1
    assert same(store.load(inline, layouts), {"a": np.zeros(64), "b": np.zeros(32)})


def test_what_was_written_for_a_manifest_that_never_came_is_used_or_dropped() -> None:
    store, index = Store(), ChunkIndex()
    a, b = np.arange(16.0), np.arange(16.0) + 1
    store.store({"a": a, "b": b}, index)  # and the manifest is not stored: index stays as it is
    _, layouts, index = store.store({"a": a, "c": a + 2}, index)
    assert [c.offset for layout in layouts.values() for c in layout.chunks] == [0, 1, 4, 5]
    store.drop(index)
    assert len(store.kept) == 4


@pytest.mark.parametrize("value", [b"", b"rubbish", compress(b"x" * 8), compress(b"other bytes")])
def test_a_damaged_chunk_is_noticed(value: bytes) -> None:
    chunk = Chunk(f"{digest(b'x' * 9)}-w", 7, 9)
    assert expand(chunk, compress(b"x" * 9)) == b"x" * 9
    with pytest.raises(SnapshotError, match=r"chunk .* at offset 7"):
        expand(chunk, value)


def test_chunks_that_do_not_make_up_their_array_are_noticed() -> None:
    with pytest.raises(SnapshotError, match="'a' has 80 bytes"):
        Assembly({"a": Layout("<f8", (10,), (Chunk("x-w", 0, 64),))})
