"""Whole batches through the state, against the oracle; and that a restart anywhere changes no byte."""

from typing import Any

import pyarrow as pa
import pytest

from schemas.headers import COUNTS
from schemas.vocabulary import Verdict
from streams.access.core.stage import AccessStage
from tests.access.oracle import Event
from tests.access.scenario import Scenario
from tests.access.support import counts_of, rows_of, same
from tests.support.states import restored, stored


def answers(outputs: Any, rows: int) -> list[Any]:
    """Verdicts as the answer has them."""
    by_row: dict[int, list[dict[str, Any]]] = {}
    for row in rows_of(outputs):
        by_row.setdefault(row["raw_row"], []).append(row)
    found: list[Any] = []
    for number in range(rows):
        mine = by_row.get(number, [])
        verdicts = {row["verdict"] for row in mine}
        if not mine:
            found.append(None)
        elif verdicts == {Verdict.EVENT}:
            (row,) = mine
            assert row["device"] == row["publisher"] and row["reading_index"] == 0
            assert {row[k] for k in ("channel", "value", "text", "reason", "topic", "ts")} == {None}
            found.append(Event(*(row[k] for k in Event._fields)))
        elif verdicts == {Verdict.ACCEPTED}:
            assert [row["reading_index"] for row in mine] == list(range(len(mine)))
            keys = ("device", "channel", "metric", "time", "value", "text", "quality")
            found.append([tuple(row[k] for k in keys) for row in mine])
        else:
            assert len(mine) == 1
            found.append((Verdict(verdicts.pop()), mine[0]["reason"].partition(":")[0]))
    return found


def expected(fates: list[Any]) -> list[Any]:
    out: list[Any] = []
    for verdict, rule, readings in fates:
        if readings and isinstance(readings[0], Event):
            out.append(readings[0]._replace(time=moment(readings[0].time)))
        elif verdict is Verdict.ACCEPTED:
            out.append([(*r[:3], moment(r[3]), *r[4:]) for r in readings] or None)
        else:
            out.append(None if verdict in (Verdict.DUPLICATE, Verdict.EVENT) else (verdict, rule))
    return out


def moment(time_ms: int) -> Any:
    return pa.scalar(time_ms, pa.timestamp("ms", "UTC")).as_py()


@pytest.mark.parametrize("seed", range(6))
def test_batches_are_judged_as_the_oracle_judges_message_by_message(seed: int) -> None:
    scenario, stage = Scenario(seed), AccessStage()
    state = stage.create(0)
    missing = 0
    for _ in range(120):
        record, fates = scenario.record()
        outputs = state.apply(record)
        if fates is None:
            continue
        assert answers(outputs, len(fates)) == expected(fates)
        counts = counts_of(outputs)
        verdicts = [verdict for verdict, _, _ in fates if verdict is not Verdict.EVENT]
        events = [rows for _, _, rows in fates if rows and isinstance(rows[0], Event)]
        assert counts.events == len(events)
        assert [getattr(counts, name) for name in COUNTS[:5]] == [
            len(verdicts),
            *(verdicts.count(v) for v in (Verdict.ACCEPTED, Verdict.DENIED, Verdict.DEAD_LETTER, Verdict.DUPLICATE)),
        ]
        assert counts.readings == sum(len(r) for _, _, r in fates) - len(events)
        missing += counts.missing
    assert missing == sum(sets.given_up for sets in scenario.oracle.seqs.values())


def test_the_schedules_meet_every_rule() -> None:
    met: set[str | None] = set()
    for seed in range(20, 26):
        scenario = Scenario(seed)
        for _ in range(150):
            met |= {rule for _, rule, _ in scenario.record()[1] or []}
    assert met >= {
        "topic", "json", "utf8", "shape", "ts", "seq_closed", "old_boot", "unknown_device", "role", "channel", "bytes",
        "child", "metric", "limit", "age", "ahead", "rate",
    }  # fmt: skip


@pytest.mark.parametrize("seed", [50, 51])
def test_a_snapshot_and_a_restart_after_each_record_change_no_byte(seed: int) -> None:
    scenario, stage = Scenario(seed), AccessStage()
    straight, broken = stage.create(0), stage.create(0)
    for _ in range(90):
        record, _ = scenario.record()
        assert same(list(straight.apply(record)), list(broken.apply(record)))
        blob = stored(broken)
        assert blob == stored(straight)
        broken = restored(AccessStage(), blob)
