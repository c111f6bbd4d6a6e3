"""A new logic version takes over in mid-flow, and the old one does not take it back. Real processes, real Kafka."""

from runtime.errors import EXIT_REFUSED
from schemas import topics as names
from tests.stage.bed import PARTITIONS, Bed, until
from tests.stage.conftest import Start

KEEPS_NOTHING = {"MILLRACE_SNAPSHOT_INTERVAL_S": "600"}
SECOND = {"TOY_VERSION": "2"}


def test_a_drained_stage_goes_on_with_a_new_version_and_loses_and_doubles_nothing(bed: Bed, start: Start) -> None:
    """Version 1 is killed in mid-flow, so that outputs are beyond its snapshot, and drained; version 2 reads its state,
    stored in another form, and writes from exactly there. Records come all the while."""
    bed.virgin("upgrade")
    bed.second_from = None
    with bed.feeding(per_second=100):
        first = start("upgrade", **KEEPS_NOTHING).wait_ready()
        until(lambda: min(bed.ends("upgrade.out")) > 20, 20, "some outputs in each partition")
        first.kill()
        drained = start("upgrade", "--drain", **KEEPS_NOTHING)
        assert drained.code() == 0, drained.text()
        cut = bed.committed("upgrade")
        assert len(cut) == PARTITIONS and min(cut) > 0
        second = start("upgrade", **SECOND).wait_ready()
        until(lambda: _all_above(bed.committed("upgrade"), cut), 20, "version 2 goes on in each partition")
    bed.wait_applied("upgrade")
    bed.second_from = cut
    print(bed.check("upgrade"))
    second.stop()


def test_a_new_version_that_is_killed_at_once_goes_on_by_itself(bed: Bed, start: Start) -> None:
    """It has written outputs and stored no snapshot since it took over: it must not be sent back to the old version."""
    bed.virgin("hasty")
    bed.second_from = None
    bed.feed(60)
    first = start("hasty").wait_ready()
    bed.wait_applied("hasty")
    first.stop()
    cut = bed.committed("hasty")
    second = start("hasty", **SECOND, **KEEPS_NOTHING).wait_ready()
    bed.feed(60)
    bed.wait_written("hasty.out", names.RAW)
    second.kill()
    again = start("hasty", **SECOND).wait_ready()
    bed.wait_applied("hasty")
    bed.second_from = cut
    print(bed.check("hasty"))
    again.stop()


def _all_above(offsets: list[int], others: list[int]) -> bool:
    return len(offsets) == len(others) and all(a > b for a, b in zip(offsets, others, strict=True))


def test_an_older_version_does_not_take_the_state_of_a_newer_one(bed: Bed, start: Start) -> None:
    """It says so and changes nothing; the newer one goes on."""
    bed.virgin("downgrade")
    bed.second_from = [0] * PARTITIONS
    bed.feed(60)
    newer = start("downgrade", **SECOND).wait_ready()
    bed.wait_applied("downgrade")
    newer.stop()
    bed.feed(20)
    before = bed.ends("downgrade.out"), bed.ends(names.state_topic("downgrade")), bed.committed("downgrade")
    older = start("downgrade")
    assert older.code() == EXIT_REFUSED, older.text()
    assert "the snapshot is of logic version 2, and version 1 can read only its own" in older.text()
    assert "Start a version that reads 2" in older.text()
    after = bed.ends("downgrade.out"), bed.ends(names.state_topic("downgrade")), bed.committed("downgrade")
    assert after == before
    again = start("downgrade", **SECOND).wait_ready()
    bed.wait_applied("downgrade")
    print(bed.check("downgrade"))
    again.stop()
