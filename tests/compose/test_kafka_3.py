"""deploy/compose/kafka-3.yml for real: one broker of three is lost permanently, with its disk, while a fleet speaks."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.compose import containers as base
from tests.compose.containers import ROOT, command, compose, inspect, is_well, ledger, operator, quiet, states, until

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]
BROKERS = ("kafka", "kafka-2", "kafka-3")
SECONDS = 200


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(base, "OVERRIDES", ["deploy/compose/kafka-3.yml"])
    monkeypatch.setenv("MILLRACE_REPLICATION", "3")
    monkeypatch.setenv("MILLRACE_KAFKA_BOOTSTRAP", ",".join(f"{name}:9092" for name in BROKERS))
    compose("build", "relay", timeout_s=900)
    compose(*base.PROFILES, "down", "-v")
    compose("up", "-d", "--no-build", check=False)
    until(lambda: all(is_well(states().get(name)) for name in (*base.VICTIMS, *BROKERS)), 180, "healthy")
    yield
    compose(*base.PROFILES, "down", "-v")


def test_a_broker_and_its_disk_are_lost_and_no_message(stack: None) -> None:
    fleet = ["--devices", "60", "--rate", "100", "--seconds", str(SECONDS)]
    argv = command("run", "-T", "--rm", "--no-deps", "fleet", "fleet", "simulate", "--json", *fleet)
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as sending:
        until(lambda: ledger()["messages"]["received"] > 0, 120, "the fleet sends")
        os.kill(inspect("kafka-2")["State"]["Pid"], signal.SIGKILL)
        compose("rm", "-s", "-f", "kafka-2")
        subprocess.run(["docker", "volume", "rm", "millrace-test_kafka-2"], check=True, capture_output=True)
        lost_at = ledger()["messages"]["received"]
        until(lambda: ledger()["messages"]["received"] > lost_at, 120, "two brokers go on")
        compose("up", "-d", "--no-build", "--no-deps", "kafka-2")
        until(lambda: is_well(states().get("kafka-2")), 90, "the broker is back, empty")
        out, _ = sending.communicate(timeout=SECONDS + 300)
    assert sending.returncode == 0, out
    sent = json.loads(out.strip().splitlines()[-1])["expected"]["messages"]
    totals = until(lambda: quiet(sent), 180, "quiet")
    print(f"\n{sent} messages sent, {totals['messages']['received']} received; {json.dumps(totals)}")
    assert all(section["difference"] == 0 for section in totals.values())
    operator("ledger", "verify")
