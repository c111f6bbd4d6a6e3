"""`millrace presence` on a running platform: what real devices did is listed, rules are checked, applied and shown."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import millrace
from streams.presence.rules import check, default
from tests.bridge.device import Device
from tests.chaos.running import Running

Call = Callable[..., str]
DEADLINE_S = 60.0


def listed(call: Call, *options: str) -> dict[str, dict[str, Any]]:
    return {row["device"]: row for row in json.loads(call("presence", "list", "--json", *options))}


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.long
def test_devices_are_listed_as_they_come_and_go(platform: Running, call: Call) -> None:
    _, port = platform.endpoint("mqtt")
    with Device(port, "stays-1") as stays:
        with Device(port, "leaves-1") as leaves:
            leaves.sent(leaves.send('{"temperature":20}'))
            stays.sent(stays.send('{"temperature":20}'))
            until(lambda: {"stays-1", "leaves-1"} <= set(listed(call, "--online")))
        until(lambda: "leaves-1" in listed(call, "--offline"))
        found = listed(call)
        assert found["leaves-1"]["state"] == "offline" and found["leaves-1"]["reason"] == "disconnected"
        assert found["stays-1"]["state"] == "online" and found["stays-1"]["publisher"] == "stays-1"
        assert list(listed(call, "--online", "--device", "stays")) == ["stays-1"]
        assert len(listed(call, "--limit", "1")) == 1
        shown = call("presence", "list", "--offline")
        assert "leaves-1" in shown and "disconnected" in shown and "stays-1" not in shown


@pytest.mark.long
def test_rules_are_checked_published_and_shown(platform: Running, call: Call, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("silence: {factor: 2, least: 20s}\n")
    bad.write_text("silence: {factor: 0}\nflaps: 3\nsetle: 1s\n")
    assert "that came with Millrace" in call("presence", "show")
    assert check(call("presence", "show"), "shown") == default()
    assert "silent after 2 times the usual gap" in call("presence", "apply", str(good))
    done = CliRunner().invoke(millrace, ["presence", "apply", str(bad), "--data", str(platform.data)])
    assert done.exit_code == 1 and "3 mistakes; nothing was changed" in done.output
    for line in (f"{bad}:1: factor", f"{bad}:2: flaps must", f"{bad}:3: the rules: unknown key 'setle'"):
        assert line in done.output
    assert CliRunner().invoke(millrace, ["presence", "check", str(good)]).exit_code == 0
    assert check(call("presence", "show"), "shown") == check(good.read_text(), "t")
    assert json.loads(call("presence", "show", "--json"))["silence"]["least"] == "20s"
