"""Whether a stage may go on from a snapshot: every refusal says what is wrong and what to do."""

from dataclasses import replace

import pytest

from runtime.errors import RefusedError
from runtime.stage.admission import LogFacts, Options, OutputEnd, admit, first, goal
from runtime.stage.provenance import START, Highest
from runtime.stage.snapshot import Snapshot, Written

SNAPSHOT = Snapshot("toy", 2, 1, "topic-1", 100, 0xBEEF, Highest(0, 99), {"out": Written(Highest(0, 99), 57)})
FACTS = LogFacts("telemetry.raw", "topic-1", 0, 0, 120, 0xBEEF, {"out": OutputEnd(60, Highest(0, 101))})
NONE = Options()


def test_unchanged_topics_are_resumed() -> None:
    assert admit(SNAPSHOT, 1, (), FACTS, NONE) is SNAPSHOT


def test_what_retention_took_before_the_position_does_no_harm() -> None:
    assert admit(SNAPSHOT, 1, (), replace(FACTS, low=100, fingerprint=None), NONE) is SNAPSHOT


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (replace(FACTS, topic_id="topic-2"), r"toy partition 2.*re-created.*--from-oldest"),
        (replace(FACTS, end=99), r"reached offset 100 .* ends at 99: the topic was truncated"),
        (replace(FACTS, fingerprint=0xDEAD), r"record 99 of telemetry.raw is not the one"),
        (replace(FACTS, low=101, fingerprint=None), r"retention deleted offsets 100 to 100 .*--skip-lost"),
        (replace(FACTS, outputs={"out": OutputEnd(57, Highest(0, 98))}), r"out ends at offset 57.* written up to 57"),
        (replace(FACTS, outputs={"out": OutputEnd()}), r"out ends at offset 0.* truncated or re-created"),
    ],
)
def test_a_snapshot_that_does_not_match_its_topics_is_refused(facts: LogFacts, says: str) -> None:
    with pytest.raises(RefusedError, match=says):
        admit(SNAPSHOT, 1, (), facts, NONE)


def test_another_version_starts_only_where_the_snapshot_covers_the_outputs() -> None:
    covered = replace(FACTS, outputs={"out": OutputEnd(58, Highest(0, 99))})
    assert admit(SNAPSHOT, 2, (1,), covered, NONE) is SNAPSHOT
    with pytest.raises(
        RefusedError, match=r"version 1 and has reached raw offset 99.* up to 101.* version 1 .*--drain"
    ):
        admit(SNAPSHOT, 2, (1,), FACTS, NONE)
    assert goal(SNAPSHOT, FACTS) == Highest(0, 101)
    assert goal(SNAPSHOT, covered) is None


@pytest.mark.parametrize(
    ("reads", "says"),
    [((), r"of logic version 1, and version 4 can read only its own"), ((3, 2), r"its own and those of 2, 3\. Start")],
)
def test_a_state_that_a_version_cannot_read_is_refused(reads: tuple[int, ...], says: str) -> None:
    covered = replace(FACTS, outputs={"out": OutputEnd(58, Highest(0, 99))})
    with pytest.raises(RefusedError, match=says):
        admit(SNAPSHOT, 4, reads, covered, NONE)
    assert admit(SNAPSHOT, 4, (1, 3), covered, NONE) is SNAPSHOT


def test_what_was_lost_is_skipped_only_when_told_so() -> None:
    facts = replace(FACTS, low=110, fingerprint=None)
    moved = admit(SNAPSHOT, 1, (), facts, Options(skip_lost=True))
    assert (moved.position, moved.highest, moved.written) == (110, SNAPSHOT.highest, SNAPSHOT.written)


def test_the_first_start_is_at_the_beginning_of_virgin_topics() -> None:
    facts = LogFacts("telemetry.raw", "topic-1", 0, 0, 5, None, {"out": OutputEnd()})
    assert first("toy", 1, 2, facts, NONE) == Snapshot("toy", 2, 1, "topic-1", 0, 0, START, {})


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (LogFacts("raw", "topic-1", 0, 3, 5, None, {"out": OutputEnd()}), r"no snapshot, but raw starts at offset 3"),
        (LogFacts("raw", "topic-1", 0, 0, 5, None, {"out": OutputEnd(4, Highest(0, 3))}), r"but out holds records"),
    ],
)
def test_an_empty_state_is_refused_where_something_would_be_forgotten(facts: LogFacts, says: str) -> None:
    with pytest.raises(RefusedError, match=says):
        first("toy", 1, 2, facts, NONE)
    assert first("toy", 1, 2, facts, Options(from_oldest=True)).position == facts.low
