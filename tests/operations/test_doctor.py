"""What `millrace doctor` calls right and wrong. Against a running platform: tests/cli/test_commands.py."""

import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from local.engines.clickhouse import ClickHouse
from local.ports import free
from local.programs import Program
from operations.doctor import DoctorSettings, control_records, judge
from operations.doctor.checks import Checks
from operations.doctor.judge import Finding, Level
from operations.doctor.run import examined, run
from runtime.clickhouse.settings import endpoint
from runtime.errors import RetryableError
from runtime.kafka.topics import Plan
from schemas.control import Device
from streams.presence import rules
from tests.servers import Server

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


class Unconfined(ClickHouse):
    """The local ClickHouse on a kernel without Landlock."""

    served: ClassVar[str] = "false"

    def program(self) -> Program:
        program = super().program()
        code = (
            "from local.clickhouse import landlock; landlock.abi = lambda: 0\n"
            "from local.clickhouse.__main__ import main; main()"
        )
        environment = {**program.environment, "MILLRACE_UNCONFINED_READERS": self.served}
        return replace(program, argv=(sys.executable, "-c", code), environment=environment)


class UnconfinedAndServed(Unconfined):
    served = "true"


@pytest.mark.parametrize(
    ("engine", "level", "what"),
    [
        (ClickHouse, Level.OK, "reaches its own data only"),
        (Unconfined, Level.WARN, r"can reach files.*; users who only read \(analyst\) are not served"),
        (UnconfinedAndServed, Level.WARN, r"can reach files.*; those of users who only read, too"),
    ],
)
def test_a_local_clickhouse_that_no_kernel_confines_does_not_go_unnoticed(
    tmp_path: Path, engine: type[ClickHouse], level: Level, what: str
) -> None:
    server = Server(engine(tmp_path / "clickhouse", free()[0]))
    server.start()
    try:
        checks = Checks(DoctorSettings(clickhouse_url=server.engine.url), tmp_path)
        assert list(checks.confinement()) == [], "no local platform"
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "status.json").write_text('{"services": []}')
        (found,) = checks.confinement()
    finally:
        server.kill()
    assert (found.level, bool(found.do)) == (level, level is not Level.OK)
    assert re.search(what, found.what), found.what


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


def test_the_command_that_steps_over_a_poison_record_is_what_to_do() -> None:
    log = "started\ntelemetry.raw[3] offset 17: not a record; `millrace stage skip access --partition 3 --offset 17`\n"
    (found,) = judge.services([{"name": "access", "state": "failed", "why": "exit code 78"}], {"access": log})
    assert found.do == "`millrace stage skip access --partition 3 --offset 17`"


def test_a_check_that_sees_nothing_is_a_finding_and_keeps_what_it_had_seen() -> None:
    def look():  # type: ignore[no-untyped-def]
        yield Finding("disk", Level.OK, "one")
        raise RetryableError("ClickHouse is away")

    found = list(examined("disk", look))
    assert [f.level for f in found] == [Level.OK, Level.WRONG]
    assert "ClickHouse is away" in found[1].what


def test_a_check_that_hangs_is_a_finding_and_the_next_one_runs() -> None:
    hung, shown = threading.Event(), list[str]()

    def hangs() -> Iterator[Finding]:
        yield Finding("slow", Level.OK, "before")
        hung.wait()

    def quick() -> Iterator[Finding]:
        yield Finding("quick", Level.OK, "after")

    found = run({"slow": hangs, "quick": quick}, lambda finding: shown.append(finding.what), timeout_s=0.2)
    hung.set()
    assert [(f.check, f.level) for f in found] == [
        ("slow", Level.OK),
        ("slow", Level.WRONG),
        ("quick", Level.OK),
    ]
    assert shown == ["before", "not finished after 0 s", "after"], "each is shown as it is found"


@pytest.mark.parametrize(
    ("url", "port"),
    [("http://u@db/x", 8123), ("https://u@db/x", 8443), ("http://u@db:9/x", 9), ("http://u@[::1]/x", 8123)],
)
def test_clickhouse_is_looked_for_where_its_client_connects(url: str, port: int, tmp_path: Path) -> None:
    settings = DoctorSettings(clickhouse_url=url)
    (_, address, tls), *_ = Checks(settings, tmp_path)._endpoints()
    assert (address.port, address.host, tls) == (port, endpoint(settings).host, url.startswith("https"))


def test_a_full_disk_of_a_local_platform_is_named_with_its_time() -> None:
    room = {"path": "/data", "free_bytes": 50 << 30, "size_bytes": 100 << 30, "full_since": None}
    assert list(judge.full_disks([room])) == []
    (full,) = judge.full_disks([room | {"free_bytes": 1 << 20, "full_since": "2026-11-30T20:00:00+00:00"}])
    assert full.level is Level.WRONG and "full since 2026-11-30T20:00" in full.what and "disk-full.md" in full.do


def test_control_records_that_no_reader_can_decode_are_named_with_the_command_that_supersedes_them() -> None:
    good = {
        "device/d-1": Device("d-1", "meter").encode(),
        "settings/presence": rules.default().encode(),
        "topic/telemetry.raw": b"not looked at here",
    }
    assert [f.level for f in control_records.findings(good)] == [Level.OK]
    broken = good | {
        "device/d-2": b'{"id": "d-3", "role": "meter"}',
        "device/d-4": b"\xff",
        "policy": b"[1]",
        "settings/anomaly": b"{",
        "mark/0123": b"{}",
    }
    found = {f.what.split()[0]: f.do for f in control_records.findings(broken)}
    assert set(found) == {"device/d-2", "device/d-4", "policy", "settings/anomaly", "mark/0123"}
    assert "millrace device role d-2" in found["device/d-2"] and "millrace policy apply" in found["policy"]
    many = {f"device/d-{n}": b"{}" for n in range(100)}
    assert [f.what for f in control_records.findings(many)][-1] == "90 more cannot be decoded"
