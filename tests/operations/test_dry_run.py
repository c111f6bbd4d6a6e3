"""A dry run changes nothing, ever: every table is compared before and after, against real Kafka and ClickHouse."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from operations import correct as corrections
from operations import replay as replays
from operations.correct import phases
from operations.replay import Refused
from runtime.kafka.log import LogReader
from schemas.topics import RAW, READINGS
from tests.operations.corrections import a_bad_hour, database, held, right
from tests.sinks.conftest import Stand

SNAPSHOT = dict[str, tuple[int, int]]


def everything(stand: Stand) -> SNAPSHOT:
    """Rows of every table of the database, and the sum of their hashes. What the sink writes for ticks goes on."""
    with database(stand) as db:
        names = db.rows(
            "SELECT name FROM system.tables WHERE database = {database:String} AND engine LIKE '%MergeTree'"
            " AND name NOT LIKE 'ledger%' ORDER BY name",
            {"database": db.database},
        )
        return {name: db.rows(f"SELECT count(), sum(cityHash64(tuple(*))) FROM {name}")[0] for (name,) in names}  # type: ignore[misc]


def break_off(stand: Stand, since: datetime, until: datetime, phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A correction that ends right after it inserted the new readings beside the old ones, or after it noted so."""
    whole = phases.insert

    def dies(db: Any, *_: Any) -> None:
        if phase == "begun":
            whole(db)
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(phases, "insert" if phase == "begun" else "set_aside", dies)
        with pytest.raises(KeyboardInterrupt):
            corrections.correct(stand.kafka_settings, stand.settings, since, until)


@pytest.mark.parametrize(("phase", "then"), [("begun", "undone"), ("inserted", "finished")])
def test_a_dry_run_of_correct_leaves_a_broken_off_correction_and_every_table_as_they_are(
    make_stand: Callable[..., Stand], monkeypatch: pytest.MonkeyPatch, phase: str, then: str
) -> None:
    stand = make_stand(2)
    with a_bad_hour(stand) as (_parts, span, words):
        since, until = (datetime.fromisoformat(word) for word in (words[2], words[4]))
        good = held(stand)
        for sink in stand.sinks:
            sink.kill()
        wanted = corrections.correct(stand.kafka_settings, stand.settings, since, until, dry_run=True).found
        assert wanted is not None and (wanted.changed, wanted.readings) == (400, 800)
        break_off(stand, since, until, phase, monkeypatch)
        before = everything(stand)
        assert "readings_corrected" in before and held(stand).total() > good.total()

        done = corrections.correct(stand.kafka_settings, stand.settings, since, until, dry_run=True)
        assert everything(stand) == before
        assert done.interrupted is not None
        assert (done.interrupted.phase, done.interrupted.then, done.corrected) == (phase, then, None)
        # what the dry run finds is what is left to do after the broken-off one is cleared
        assert done.found is not None
        assert done.found.changed == (400 if then == "undone" else 0) and done.found.recounted == 0

        real = corrections.correct(stand.kafka_settings, stand.settings, since, until)
        assert real.interrupted is not None and real.interrupted.then == then
        assert real.found == done.found
        assert held(stand) == right(good, span)


@pytest.mark.long
def test_a_dry_run_of_replay_sends_nothing(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand(2)
    with a_bad_hour(stand):
        for sink in stand.sinks:
            sink.kill()
        before = everything(stand)
        with LogReader(stand.kafka_settings) as reader:
            ends = [reader.bounds(topic, p) for topic in (RAW, READINGS) for p in range(2)]
            now = datetime.now(UTC)
            wanted = Refused("dead-letters", now - timedelta(hours=1), now + timedelta(hours=1))
            done = replays.replay(stand.kafka_settings, stand.settings, wanted, dry_run=True)
            assert sum(done.found.values()) > 0 and done.sent == 0
            assert [reader.bounds(topic, p) for topic in (RAW, READINGS) for p in range(2)] == ends
        assert everything(stand) == before
