"""The demo, small: a kill -9 in the middle, every message accounted for, nothing left running."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cli.demo_report import mistakes
from local import status
from local.fleet.plan import Expected
from local.fleet.simulate import Report

DEADLINE_S = 120.0


def demo(data: Path, *words: str) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-m", "cli.main", "demo", "--data", str(data), *words]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_demo_ends_with_a_ledger_that_reconciles_and_leaves_nothing_running(tmp_path: Path) -> None:
    process = demo(tmp_path, "--devices", "60", "--rate", "300", "--seconds", "4", "--kill", "bridge")
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, out + err
    ledger = json.loads(out.splitlines()[-1])
    assert ledger["messages"]["received"] >= 1200
    assert ledger["messages"]["difference"] == ledger["readings"]["difference"] == 0
    assert ledger["messages"]["in_flight"] == ledger["readings"]["in_flight"] == 0
    for part in ("first stored message", "bridge was killed with -9", "p99", "denied", "dead letters", "planned"):
        assert part in out
    assert not status.is_running(tmp_path)


def test_a_demo_that_is_ended_takes_the_platform_with_it(tmp_path: Path) -> None:
    process = demo(tmp_path, "--devices", "20", "--rate", "10", "--seconds", "60")
    deadline = time.monotonic() + DEADLINE_S
    while not (status.read(tmp_path) or {}).get("services"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 128 + signal.SIGTERM
    assert not status.is_running(tmp_path)


EXPECTED = Expected(messages=100, accepted=90, denied=3, dead_letters=2, duplicates=5, readings=270)
FOUND = {"received": 100, "accepted": 90, "denied": 3, "dead_lettered": 2, "duplicates": 5, "readings": 270}
RIGHT = {"messages": {"difference": 0}, "readings": {"difference": 0}}
SENT = {"accepted": 90, "denied": 3, "dead_letters": 2, "duplicates": 5}


def report(sent: dict[str, int]) -> Report:
    return Report(EXPECTED, sent, 100, 0, 0, 10, 0.1, 10.0, 0.1, 12.0, 0.0, "")


def test_all_is_well_when_every_fate_is_as_planned() -> None:
    assert mistakes(report(SENT), FOUND, RIGHT) == []


def test_repeats_after_a_break_are_well_when_they_are_duplicates() -> None:
    assert mistakes(report(SENT), FOUND | {"received": 107, "duplicates": 12}, RIGHT) == []


def test_whatever_does_not_fit_is_named() -> None:
    assert mistakes(report(SENT), FOUND, {"messages": {"difference": 2}, "readings": {"difference": 0}}) == [
        "the ledger's difference of messages is 2"
    ]
    assert mistakes(report(SENT), FOUND | {"accepted": 91}, RIGHT) == ["accepted: planned 90, found 91"]
    assert mistakes(report(SENT), FOUND | {"readings": 269}, RIGHT) == ["readings: planned 270, found 269"]
    assert "1 messages came more often" in mistakes(report(SENT), FOUND | {"received": 101}, RIGHT)[0]
    assert "could not send its plan" in mistakes(report(SENT | {"accepted": 89}), FOUND, RIGHT)[0]
