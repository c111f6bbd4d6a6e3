"""A service from outside: probes, ordered start, drain in reverse, exit codes. Real processes."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from runtime.probes import Probes

SERVICE = """
import asyncio, sys
from runtime import logs
from runtime.errors import RefusedError
from runtime.lifecycle import run, guard
from runtime.probes import Probes

class Part:
    def __init__(self, name): self.name = name
    async def start(self):
        print("start", self.name, flush=True)
        if self.name == sys.argv[1]: raise RefusedError("the topics do not match: run init")
    async def stop(self):
        print("stop", self.name, flush=True)
        if sys.argv[1] == "hang": await asyncio.sleep(60)

async def later():
    await asyncio.sleep(0.05)
    raise ValueError("boom")

async def main():
    if sys.argv[1] == "background": guard(later(), "background")
    await run([Part("a"), Part("b")], Probes("127.0.0.1:0"), grace_s=0.3)

logs.configure("toy")
asyncio.run(main())
"""


def _start(tmp_path: Path, mode: str) -> "subprocess.Popen[str]":
    file = tmp_path / "service.py"
    file.write_text(SERVICE)
    return subprocess.Popen(
        [sys.executable, str(file), mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": "."},
    )


def _terminated(process: "subprocess.Popen[str]") -> tuple[list[str], list[dict[str, object]]]:
    assert process.stderr is not None
    first = process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    return out.splitlines(), [json.loads(line) for line in (first + err).splitlines()]


def test_parts_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    process = _start(tmp_path, "none")
    out, log = _terminated(process)
    assert out == ["start a", "start b", "stop b", "stop a"]
    assert process.returncode == 0
    assert [line["message"] for line in log] == ["ready", "draining", "stopped"]
    assert log[0]["service"] == "toy"


def test_a_start_that_is_refused_exits_with_78_and_one_line(tmp_path: Path) -> None:
    process = _start(tmp_path, "b")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 78
    assert [json.loads(line)["message"] for line in err.splitlines()] == ["start: the topics do not match: run init"]


def test_an_unexpected_error_in_the_background_ends_the_process_with_70(tmp_path: Path) -> None:
    process = _start(tmp_path, "background")
    out, err = process.communicate(timeout=20)
    assert process.returncode == 70
    assert "stop" not in out
    assert "boom" in err


def test_a_drain_that_hangs_is_ended(tmp_path: Path) -> None:
    process = _start(tmp_path, "hang")
    _terminated(process)
    assert process.returncode == 70


def _get(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.fixture
def probes():  # type: ignore[no-untyped-def]
    made = Probes("127.0.0.1:0", silence_s=0.2)
    made.start()
    yield made
    made.stop()


def test_readiness_follows_the_checks_and_names_what_is_wrong(probes: Probes) -> None:
    probes.beat()
    assert _get(probes.port, "/health/ready") == (503, b'{"ok":false,"wrong":{"start":"not finished"}}')
    probes.started()
    probes.beat()
    assert _get(probes.port, "/health/ready")[0] == 200
    probes.checks["kafka"] = lambda: "away"
    assert b'"kafka":"away"' in _get(probes.port, "/health/ready")[1]
    assert _get(probes.port, "/nothing")[0] == 404
    assert b"python_info" in _get(probes.port, "/metrics")[1]


def test_a_worker_that_goes_silent_turns_live_red_though_the_loop_beats(probes: Probes) -> None:
    beat = probes.worker("records", silence_s=0.2)
    probes.beat()
    assert "records" not in probes.wrong(False), "before its first beat it may wait for what it needs"
    beat()
    deadline = time.monotonic() + 5
    while b'"records":"no beat' not in _get(probes.port, "/health/live")[1]:
        probes.beat()
        assert time.monotonic() < deadline
    beat()
    assert "records" not in probes.wrong(False)


def test_a_loop_that_does_not_beat_is_not_live(probes: Probes) -> None:
    probes.beat()
    assert _get(probes.port, "/health/live")[0] == 200
    deadline = time.monotonic() + 5
    while _get(probes.port, "/health/live")[0] == 200:
        assert time.monotonic() < deadline
    assert b"no beat" in _get(probes.port, "/health/live")[1]
