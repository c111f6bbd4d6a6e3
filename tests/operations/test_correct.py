"""Readings that an old decoder got wrong, decoded again while the sink goes on, against real Kafka and ClickHouse."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from operations import stages
from operations.correct import phases
from runtime.kafka import clients
from schemas.skips import Skips
from schemas.topics import AGGREGATES, RAW, READINGS
from tests.operations.conftest import Command, flowing, tick
from tests.operations.corrections import COLUMNS, Access, a_bad_hour, database, held, right, say, settled
from tests.operations.flows import findings, ok
from tests.sinks.conftest import Stand


def test_a_correction_replaces_what_was_wrong_and_nothing_else(
    make_stand: Callable[..., Stand], command: Command
) -> None:
    stand = make_stand(2)
    with a_bad_hour(stand) as (parts, span, words):
        before = held(stand)
        dry = command(stand, *words, "--dry-run")
        ok(dry)
        assert "different: 400 messages with 800 readings" in dry.output and held(stand) == before
        ok(command(stand, *words))
        assert held(stand) == right(before, span) != before
        with database(stand) as db:
            aside = Counter(db.rows(f"SELECT {COLUMNS} FROM readings_superseded"))
            assert aside == Counter({row: n for row, n in before.items() if row[1] in span})
            assert db.rows("SELECT phase, messages, readings FROM corrections ORDER BY at") == [
                (phase, 400, 800) for phase in ("begun", "inserted", "done")
            ]
        again = command(stand, *words)
        assert "the same: 400 messages\ndifferent: 0 messages" in again.output
        say(parts, 5)
        settled(stand, parts)
        assert findings(stand) == []


def test_a_record_that_access_skipped_ends_no_correction_rebuild_verification_or_replay(
    make_stand: Callable[..., Stand], command: Command
) -> None:
    stand = make_stand(2)
    with a_bad_hour(stand, skipped=7) as (parts, span, words):
        before, refused = held(stand), _dead_letters(stand)
        assert sum("skipped: written by hand" in row for row in refused) == 7
        ok(command(stand, *words, "--dry-run"))
        ok(command(stand, *words))
        assert held(stand) == right(before, span) != before
        assert findings(stand) == []
        replay = command(stand, "replay", "dead-letters", "--since", "1h", "--reason", "skipped", "--json")
        assert json.loads(replay.output.splitlines()[-1]) == {"found": {"skipped": 7}, "left_out": 7, "sent": 0}
        with flowing(lambda: _tick(parts)):
            ok(command(stand, "rebuild", "dead_letters", "--drop"))
        assert _dead_letters(stand) == refused
        assert findings(stand) == []


@pytest.mark.long
def test_garbage_that_the_sink_skipped_ends_no_rebuild_and_no_verification(
    make_stand: Callable[..., Stand], command: Command
) -> None:
    stand = make_stand(1)
    (chain,) = stand.chains
    chain.flow(3)
    for topic in (READINGS, AGGREGATES):
        stand.send(topic, 0, [], b"garbage")
        stand.producer.flush()
        end = clients.consumer(stand.kafka_settings, "end").get_watermark_offsets(TopicPartition(topic, 0), 10)[1]
        stages.skip(stand.kafka_settings, "aggregate" if topic == READINGS else topic, 0, end - 1, "by hand")
    chain.flow(3)
    stand.sink()
    stand.check()
    assert findings(stand) == []
    for table in ("readings", "aggregates_1m"):
        with flowing(lambda: tick(stand)):
            ok(command(stand, "rebuild", table, "--drop"))
    stand.check()


@pytest.mark.long
def test_a_record_that_access_cannot_read_changes_nothing_and_names_the_offset(
    make_stand: Callable[..., Stand], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = make_stand(2)
    with a_bad_hour(stand, skipped=7) as (_parts, _span, words):
        before = held(stand)
        monkeypatch.setattr("operations.correct.run.read_skips", lambda _settings: Skips())
        refused = str(command(stand, *words).exception)
        assert f"{RAW}[0] offset " in refused and "Nothing was changed. Choose a time without it" in refused
        assert held(stand) == before


def _dead_letters(stand: Stand) -> Counter[tuple[Any, ...]]:
    with database(stand) as db:
        return Counter(db.rows("SELECT raw_partition, raw_offset, raw_row, reason FROM dead_letters"))


def _tick(parts: list[Access]) -> None:
    for part in parts:
        part.tick()
    parts[0].stand.producer.flush(1)


@pytest.mark.chaos
@pytest.mark.parametrize("step", ["insert", "note", "set_aside"])
def test_a_correction_that_was_cut_off_is_undone_or_finished_by_the_next(
    make_stand: Callable[..., Stand], command: Command, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    stand = make_stand(2)
    with a_bad_hour(stand) as (_parts, span, words):
        before = held(stand)
        whole = getattr(phases, step)

        def cut_off(*given: Any) -> None:
            if step != "note" or given[2] == "inserted":
                if step == "insert":
                    whole(*given)
                raise KeyboardInterrupt
            whole(*given)

        with monkeypatch.context() as cut:
            cut.setattr(phases, step, cut_off)
            assert command(stand, *words).exit_code == 1
        assert held(stand).total() > before.total(), "old and new stand side by side"
        ok(command(stand, *words))
        assert held(stand) == right(before, span)
        assert findings(stand) == []


@pytest.mark.long
def test_what_retention_took_cannot_be_corrected(make_stand: Callable[..., Stand], command: Command) -> None:
    stand = make_stand(2)
    with a_bad_hour(stand) as (_parts, span, words):
        admin = clients.admin(stand.kafka_settings)
        for future in admin.delete_records([TopicPartition(RAW, 1, span.start + 2)]).values():
            future.result(10)
        before = held(stand)
        refused = str(command(stand, *words).exception)
        assert f"{RAW}[1]: retention deleted offsets {span.start} to {span.start + 1}" in refused
        assert held(stand) == before
        assert "is not after" in str(command(stand, "correct", "--from", "1h", "--to", "2h").exception)
