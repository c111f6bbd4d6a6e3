"""seq, boot and gaps against an oracle of plain sets."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.columns.grouped import Grouped
from streams.access.core.runs import MAX_INTERVALS, Fresh, Run
from streams.access.core.sequence import Sequences
from tests.access.sets import SetOfOneBoot, SetsOfDevice

seqs = st.lists(
    st.one_of(st.integers(0, 12), st.integers(0, 400), st.integers(0, 200).map(lambda n: 2 * n)), max_size=300
)


@given(seqs)
def test_one_boot_says_what_sets_say(found: list[int]) -> None:
    run, oracle, given_up = Run(0), SetOfOneBoot(), 0
    for seq in found:
        fresh, gone = run.take(seq)
        given_up += gone
        assert fresh == oracle.take(seq)
        assert run.waited_for == len(oracle.missing) and run.highest == oracle.highest
    assert given_up == oracle.given_up


def test_the_oldest_gap_is_given_up_and_what_comes_for_it_is_closed() -> None:
    run = Run(0)
    for seq in range(1, 2 * MAX_INTERVALS, 2):
        assert run.take(seq) == (Fresh.NEW, 0)
    assert len(run.missing) == MAX_INTERVALS
    assert run.take(2 * MAX_INTERVALS + 1) == (Fresh.NEW, 1), "seq 0 is given up"
    assert run.take(0) == (Fresh.SEQ_CLOSED, 0)
    assert run.take(2) == (Fresh.NEW, 0), "the next gap still waits"
    assert run.take(2) == (Fresh.REPEAT, 0)


steps = st.lists(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from([3, 3, 3, 3, 4, 5, 6, 7, 8, 2]),
            st.sampled_from(["next", "next", "next", "next", "same", "back", "skip", "far", "zero"]),
        ),
        max_size=30,
    ),
    max_size=8,
)


@settings(max_examples=150)
@given(steps, st.booleans())
def test_batches_say_what_sets_say_one_by_one(batches: list[list[tuple[int, int, str]]], restore: bool) -> None:
    sequences, oracles = Sequences(8), [SetsOfDevice() for _ in range(6)]
    missing, last = 0, dict[tuple[int, int], int]()
    for found in batches:
        rows: list[tuple[int, int, int]] = []
        for device, boot, how in found:
            here = last.get((device, boot), -1)
            move = {"next": 1, "same": 0, "back": -3, "skip": 3, "far": 150, "zero": -here}[how]
            seq = max(0, here + move)
            last[device, boot] = max(here, seq)
            rows.append((device, boot, seq))
        plan = plan_of(sequences, rows)
        assert plan.fresh.tolist() == [oracles[d].take(b, s) for d, b, s in rows]
        sequences.commit(plan)
        missing += plan.missing
        if restore:
            sequences = copied(sequences)
    assert missing == sum(o.given_up for o in oracles)


def plan_of(sequences: Sequences, rows: list[tuple[int, int, int]]) -> Any:
    columns = np.array(rows, np.int64).reshape(-1, 3).T
    return sequences.plan(Grouped(columns[0].astype(np.int32)), columns[1], columns[2])


def copied(sequences: Sequences) -> Sequences:
    other = Sequences(len(sequences.boots))
    other.boots[:], other.highest[:] = sequences.boots, sequences.highest
    keys = sorted(sequences.kept)
    kept = [sequences.kept[key] for key in keys]
    other.keep(np.array(keys, np.int64), np.array([len(k) for k in kept], np.int64), b"".join(kept))
    assert other.kept_bytes == sequences.kept_bytes and (other.gaps == sequences.gaps).all()
    return other


def test_a_plan_changes_nothing_until_it_is_committed() -> None:
    sequences = Sequences(8)
    rows = [(0, 1, 0), (0, 1, 5), (1, 1, 0), (1, 1, 1)]
    first, again = plan_of(sequences, rows), plan_of(sequences, rows)
    assert first.fresh.tolist() == again.fresh.tolist() == [Fresh.NEW] * 4
    sequences.commit(first)
    assert plan_of(sequences, rows).fresh.tolist() == [Fresh.REPEAT] * 4


@pytest.mark.parametrize("seq", [0, 1, 2**53 - 1])
def test_numbers_at_the_edges(seq: int) -> None:
    sequences = Sequences(8)
    for expected in (Fresh.NEW, Fresh.REPEAT):
        plan = plan_of(sequences, [(0, 2**53 - 1, seq)])
        assert plan.fresh.tolist() == [expected]
        sequences.commit(plan)
