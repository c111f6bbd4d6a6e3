"""Readings that an old decoder got wrong, decoded again while the sink goes on, against real Kafka and ClickHouse."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from operations.correct import phases
from runtime.kafka import clients
from schemas.topics import RAW
from tests.operations.conftest import Command
from tests.operations.corrections import COLUMNS, a_bad_hour, database, held, right, say, settled
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
