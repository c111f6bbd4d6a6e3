"""Data folders with all the names that a file system allows: the engines start there, twice, and keep what they had."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.running import ROOT, Running

LIMIT_S = 60.0
NAMES = [
    pytest.param("Ünïcode & 'quotes' \"two\", comma #1?a=b%20$HOME;\\ [x]*", id="spaces, umlauts, quotes and signs"),
    pytest.param("/".join(["long" * 20] * 4), id="longer than a unix socket's path"),
]


def until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def stored(running: Running) -> int:
    return int(running.clickhouse().query("SELECT count() FROM readings WHERE device = 'sensor-1'").result_rows[0][0])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.long
def test_a_message_is_there_after_down_and_up_whatever_the_folder_is_called(tmp_path: Path, name: str) -> None:
    data = tmp_path / name
    data.parent.mkdir(parents=True, exist_ok=True)
    relative = os.path.relpath(data, ROOT)  # as people give it; `up` runs there
    with Running(data) as running:
        message = ("-m", '{"temperature":21.5}', "-V", "5", "-q", "1", "-i", "sensor-1")
        port = running.command("status", "--port", "mqtt").strip()
        subprocess.run(["mosquitto_pub", "-p", port, "-t", "d/sensor-1/telemetry/climate", *message], check=True)
        until(lambda: stored(running) == 1, "the message is stored")
        ports = running.status()["endpoints"]
    argv = [sys.executable, "-m", "cli.main", "up", "--data", relative, "--insecure-loopback", "--detach"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    try:
        assert running.status()["endpoints"] == ports, "a client finds the platform where it was"
        assert stored(running) == 1
        assert running.ledger()["messages"]["difference"] == 0
    finally:
        running.command("down")
    assert [child.name for child in data.parent.iterdir()] == [data.name], "nothing lies beside the data folder"
