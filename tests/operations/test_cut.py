"""Where a backup is cut, what must be read on and which epochs follow, as functions of values."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operations.backup.control import lost, successors
from operations.backup.cut import Cut, condition, cuts, within
from operations.backup.manifest import File, Manifest, Topic, check, read, sha256
from runtime.errors import RefusedError
from schemas.control import TopicFacts
from schemas.topics import AGGREGATES, CONTROL, DERIVED, RAW, READINGS

_END = st.dictionaries(st.tuples(st.integers(0, 2), st.integers(0, 1)), st.integers(0, 50))


@given(st.fixed_dictionaries(dict.fromkeys((RAW, READINGS, *DERIVED), _END)))
def test_nothing_of_the_newest_epoch_is_in_before_what_it_is_made_of(ends: Mapping[str, Cut]) -> None:
    found = cuts(ends)
    assert found[RAW].keys() == ends[RAW].keys()
    both = ends[RAW].keys() & ends[READINGS].keys()
    for partition in (0, 1):
        newest = max((epoch for epoch, p in both if p == partition), default=-1)
        key = (newest, partition)
        if newest < 0:
            continue
        assert found[RAW][key] == found[READINGS][key] == min(ends[RAW][key], ends[READINGS][key])
        for topic in DERIVED:
            if key in found[topic]:
                assert found[topic][key] == min(ends[topic][key], found[READINGS][key])
        for topic, cut in found.items():
            for (epoch, p), end in cut.items():
                if p == partition and epoch < newest:
                    assert end == ends[topic][epoch, p], "an epoch that is over stays whole"


def test_a_table_is_cut_by_the_topic_that_fills_it() -> None:
    cut: dict[str, Cut] = {RAW: {(0, 0): 9}, READINGS: {(0, 0): 9}, AGGREGATES: {(0, 0): 7}}
    one = "(raw_epoch = 0 AND raw_partition = 0 AND raw_offset <= {})"
    assert condition("readings", {"raw_offset"}, cut) == f"({one.format(9)})"
    assert condition("devices", {"raw_offset"}, cut) == f"({one.format(9)})"
    assert condition("aggregates_1m", {"raw_offset"}, cut) == f"({one.format(7)})"
    assert condition("aggregates_1h", {"device"}, cut) == "true"
    assert condition("ledger_derived", {"raw_offset"}, cut) == f"((topic = '{AGGREGATES}' AND ({one.format(7)})))"
    assert condition("anomalies", {"raw_offset"}, cut) == "false"
    assert within({(0, 0): -1}) == "false"


def _topic(topic_id: str, epoch: int, **more: Any) -> Topic:
    return Topic(topic_id, epoch, 1, more.get("read_on", {}))


@pytest.mark.parametrize(
    ("old", "now", "epoch"),
    [
        (_topic("a", 3), TopicFacts("a", 3, 1), None),
        (_topic("a", 3), TopicFacts("a", 0, 1), 3),  # platform.control alone was lost
        (_topic("a", 3), TopicFacts("b", 0, 1), 4),
        (_topic("a", 3), TopicFacts("b", 4, 1), None),  # restored before
        (_topic("a", 3), TopicFacts("c", 5, 1), None),
    ],
)
def test_a_topic_created_again_gets_an_epoch_that_no_row_has(old: Topic, now: TopicFacts, epoch: int | None) -> None:
    found = successors({RAW: old}, {RAW: now}, {})
    assert found == ({} if epoch is None else {RAW: TopicFacts(now.topic_id, epoch, 1)})


def test_services_that_wrote_before_the_restore_are_noticed() -> None:
    old, now = {RAW: _topic("a", 3)}, {RAW: TopicFacts("b", 0, 1)}
    with pytest.raises(RefusedError, match="services ran before the restore"):
        successors(old, now, {RAW: 12})
    assert successors({CONTROL: _topic("a", 3)}, {CONTROL: TopicFacts("b", 0, 1)}, {CONTROL: 12})
    with pytest.raises(RefusedError, match="has 2 partitions, in the backup 1"):
        successors(old, {RAW: TopicFacts("a", 3, 2)}, {})


@pytest.mark.parametrize(
    ("read_on", "now", "bounds", "reported"),
    [
        ({0: (3, 10)}, TopicFacts("a", 3, 1), (10, 20), None),
        ({0: (3, 10)}, TopicFacts("a", 3, 1), (12, 20), "offsets 10 to 11 are lost: retention deleted them"),
        ({}, TopicFacts("a", 3, 1), (0, 20), None),
        ({0: (2, 10)}, TopicFacts("a", 3, 1), (1, 20), "offsets 0 to 0 are lost"),
        ({0: (3, 10)}, TopicFacts("b", 0, 1), (0, 0), "created again: what was from offset 10 on is lost"),
    ],
)
def test_what_kafka_no_longer_holds_is_reported(
    read_on: dict[int, tuple[int, int]], now: TopicFacts, bounds: tuple[int, int], reported: str | None
) -> None:
    found = lost({RAW: _topic("a", 3, read_on=read_on)}, {RAW: now}, {(RAW, 0): bounds})
    assert len(found) == (reported is not None) and (reported or "") in "".join(found)


def test_a_manifest_says_all_of_itself_and_what_is_wrong_with_files(tmp_path: Any) -> None:
    pq.write_table(pa.table({"n": range(5)}), tmp_path / "x")
    (tmp_path / "c").write_bytes(b"{}\n")
    whole = File("x", 3, sha256(tmp_path / "x"), "readings", 5, 2**64 - 1)
    files = [whole, File("y", 1, whole.sha256), File("c", 3, sha256(tmp_path / "c"), records=1)]
    made = Manifest("2026-11-25T00:00:00", {"0001": "c"}, {RAW: _topic("a", 3, read_on={0: (3, 10)})}, files)
    (tmp_path / "manifest.json").write_bytes(made.encode())
    assert read(tmp_path) == made
    assert check(tmp_path, made) == ["y is missing"]
    fewer = Manifest(made.made_at, {}, {}, [replace(whole, rows=6), replace(files[2], records=2)])
    assert check(tmp_path, fewer) == ["x holds 5 rows, not 6", "c holds 1 records, not 2"]
    (tmp_path / "x").write_bytes(b"abd")
    assert "x is not what was written" in check(tmp_path, made)[0]
    (tmp_path / "manifest.json").write_text('{"form": 9}')
    with pytest.raises(RefusedError, match="form 9"):
        read(tmp_path)
