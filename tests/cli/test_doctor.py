"""What `millrace doctor` calls right and wrong. Against a running platform: test_commands.py."""

import pytest

from cli.doctor import examined
from operations.doctor import judge
from operations.doctor.judge import Finding, Level
from runtime.errors import RetryableError
from runtime.kafka.topics import Plan

PLAN = Plan("telemetry.raw", 4, {"message.timestamp.type": "LogAppendTime", "min.insync.replicas": "2"})
RIGHT = dict(PLAN.config)


@pytest.mark.parametrize(
    ("finding", "level", "text"),
    [
        (judge.certificate("x", 90), Level.OK, "90 days left"),
        (judge.certificate("x", 1), Level.WARN, "1 days left"),
        (judge.certificate("x", -3), Level.WRONG, "ended 3 days ago"),
        (judge.clock(0.4, "Kafka's"), Level.OK, "0.4 s off Kafka's"),
        (judge.clock(-90, "Kafka's"), Level.WRONG, "-90.0 s off Kafka's"),
        (judge.tick(2.0), Level.OK, "2.0 s ago"),
        (judge.tick(60.0), Level.WRONG, "60 s old"),
        (judge.tick(None), Level.WRONG, "no tick"),
        (judge.disk("d", 50, 100), Level.OK, "50%"),
        (judge.disk("d", 10, 100), Level.WARN, "10%"),
        (judge.disk("d", 5 << 30, 110 << 30), Level.WRONG, "5.0 GiB free of 110.0 (5%)"),
        (judge.lag("access", 40, 9.0), Level.OK, "40 records behind"),
        (judge.lag("access", 4000, 900.0), Level.WRONG, "4,000 records behind, 900 s"),
        (judge.ledger({"messages": {"received": 5, "difference": 0}}), Level.OK, "messages 5"),
        (judge.ledger({"messages": {"received": 5, "difference": 2}}), Level.WRONG, "messages: difference 2"),
    ],
)
def test_each_fact_has_its_finding_and_says_what_to_do(finding: Finding, level: Level, text: str) -> None:
    assert (finding.level, text in finding.what) == (level, True), finding
    assert bool(finding.do) == (level is not Level.OK)


def _topic(registered: object, live: object, **config: str) -> list[tuple[Level, str]]:
    return [(f.level, f.what) for f in judge.topic(PLAN, registered, live, RIGHT | config)]  # type: ignore[arg-type]


def test_a_topic_is_compared_with_its_plan_and_its_registration() -> None:
    assert _topic(("a", 4), ("a", 4)) == []
    assert _topic(None, None) == [(Level.WRONG, "telemetry.raw is not there")]
    assert [level for level, _ in _topic(("a", 4), ("b", 5))] == [Level.WRONG, Level.WRONG]
    changed = {"message.timestamp.type": "CreateTime", "min.insync.replicas": "1"}
    assert [f.level for f in judge.topic(PLAN, ("a", 4), ("a", 4), changed)] == [Level.WRONG, Level.WARN]


def test_services_that_do_not_run_are_named() -> None:
    told = [{"name": "init", "state": "done"}, {"name": "sink", "state": "failed", "why": "a gap"}]
    assert [(f.level, f.what) for f in judge.services(told)] == [(Level.WRONG, "sink is failed a gap")]
    assert judge.worst(list(judge.services(told[:1]))) is Level.OK


def test_a_look_that_sees_nothing_is_a_finding_and_keeps_what_it_had_seen() -> None:
    def look():  # type: ignore[no-untyped-def]
        yield Finding("disk", Level.OK, "one")
        raise RetryableError("ClickHouse is away")

    found = examined("disk", look)
    assert [f.level for f in found] == [Level.OK, Level.WRONG]
    assert "ClickHouse is away" in found[1].what
