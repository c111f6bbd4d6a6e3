"""docker-compose.yml, brought up for real, broken and repaired: `make test-compose`, as root, where docker is.

What stand-ins for public images cannot show is listed in docs/testing.md.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compose.containers import (
    PROFILES,
    ROOT,
    VICTIMS,
    command,
    compose,
    inspect,
    is_well,
    ledger,
    operator,
    quiet,
    states,
    until,
)

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1500)]
HEALTHY_S = 60.0
LOST_BY_BROKER = 120
"""Messages of two seconds: what mosquitto acknowledged and had not saved when it was killed is gone, as documented."""
ENGINES = {"kafka", "clickhouse", "mosquitto"}
WATCHERS = ("notify", "prometheus", "alertmanager", "grafana")
SECRETS = ("PASSWORD=", "SECRET", "TOKEN", "BEGIN ", "PRIVATE")


@pytest.fixture(scope="module")
def stack() -> Iterator[float]:
    """Seconds from `up` to healthy, images being there."""
    compose("build", "relay", timeout_s=900)
    compose(*PROFILES, "down", "-v")
    begun = time.monotonic()
    compose("up", "-d", "--wait", "--no-build", check=False)
    until(lambda: all(is_well(states().get(name)) for name in VICTIMS), 120, "healthy")
    yield time.monotonic() - begun
    logs = compose("logs", "--no-color", "--tail", "200", check=False)
    (Path(os.environ.get("TMPDIR", "/tmp")) / "millrace-compose.log").write_text(logs)
    compose(*PROFILES, "down", "-v")


def test_everything_is_healthy_within_a_minute(stack: float) -> None:
    print(f"\nhealthy after {stack:.1f} s")
    assert stack < HEALTHY_S


@pytest.fixture(scope="module")
def watched(stack: float) -> None:
    """The profile `monitoring` beside it."""
    compose("--profile", "monitoring", "up", "-d", "--no-build", check=False)
    until(lambda: all(is_well(states().get(name)) for name in WATCHERS), 120, "monitoring is healthy")


@pytest.mark.parametrize("service", VICTIMS)
def test_a_container_is_confined(stack: float, service: str) -> None:
    _is_confined(service)


@pytest.mark.parametrize("service", WATCHERS)
def test_a_container_of_the_monitoring_is_confined(watched: None, service: str) -> None:
    _is_confined(service)


def test_prometheus_reaches_every_service_and_knows_its_rules(watched: None) -> None:
    services = until(_all_up, 90, "every target is up")
    print(f"\nPrometheus scrapes {', '.join(services)}")
    groups = _prometheus("rules")["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    assert len(_prometheus("alertmanagers")["activeAlertmanagers"]) == 1


def _all_up() -> list[str] | None:
    """The services scraped, when none is missing and every target is up."""
    targets = _prometheus("targets")["activeTargets"]
    services = {target["labels"].get("service", target["labels"]["job"]) for target in targets}
    wanted = {"notify", "prometheus", "alertmanager", *VICTIMS} - ENGINES
    return sorted(services) if services >= wanted and all(target["health"] == "up" for target in targets) else None


def _prometheus(path: str) -> dict[str, Any]:
    url = f"http://127.0.0.1:9090/api/v1/{path}"
    found: dict[str, Any] = json.loads(compose("exec", "-T", "prometheus", "wget", "-q", "-O", "-", url))["data"]
    return found


def _is_confined(service: str) -> None:
    found = inspect(service)
    host, config = found["HostConfig"], found["Config"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] > 0 and host["NanoCpus"] > 0
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert config["User"] not in ("", "0", "root", "0:0")
    assert host["ReadonlyRootfs"] or service == "clickhouse"
    assert [line.split("=")[0] for line in config["Env"] if any(word in line.upper() for word in SECRETS)] == []


def test_the_fleet_speaks_while_processes_are_killed_one_by_one_and_the_ledger_reconciles(stack: float) -> None:
    before = ledger()["messages"]["received"]
    seconds = 20 * len(VICTIMS)
    fleet = ["--devices", "60", "--rate", "60", "--seconds", str(seconds)]
    argv = command("run", "-T", "--rm", "--no-deps", "fleet", "fleet", "simulate", "--json", *fleet)
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as sending:
        until(lambda: ledger()["messages"]["received"] > before, 120, "the fleet sends")
        for victim in VICTIMS:
            _kill(victim)
        out, _ = sending.communicate(timeout=seconds + 300)
    assert sending.returncode == 0, out
    sent = json.loads(out.strip().splitlines()[-1])
    wanted = before + sent["expected"]["messages"]
    totals = until(lambda: quiet(wanted - LOST_BY_BROKER), 180, "quiet")
    lost = max(0, wanted - totals["messages"]["received"])
    print(f"\nkilled {', '.join(VICTIMS)}; lost with the broker's memory: {lost}; ledger {json.dumps(totals)}")
    for section in totals.values():
        assert section["difference"] == 0
    operator("ledger", "verify")


def _kill(service: str) -> None:
    """kill -9 from the host: `docker kill` would count as a manual stop."""
    found = inspect(service)
    restarts = found["RestartCount"]
    os.kill(found["State"]["Pid"], signal.SIGKILL)
    begun = time.monotonic()
    until(lambda: inspect(service)["RestartCount"] > restarts, 30, f"{service} is restarted")
    until(lambda: is_well(states().get(service)), 90, f"{service} is healthy again")
    print(f"\n{service} back after {time.monotonic() - begun:.1f} s", end="")


def test_more_access_workers_share_the_partitions(stack: float) -> None:
    compose("up", "-d", "--no-build", "--no-recreate", "--scale", "access=3", "access")
    until(lambda: len(compose("ps", "-q", "access").split()) == 3, 30, "three containers")
    until(lambda: _held() == 4, 60, "three workers hold four partitions between them")


def _held() -> int:
    """Partitions that the access containers hold, as their metrics say."""
    ask = (
        "import urllib.request as u;"
        "print(u.urlopen('http://127.0.0.1:9100/metrics').read().decode())"
    )  # fmt: skip
    held = []
    for index in ("1", "2", "3"):
        page = compose("exec", "-T", "--index", index, "access", "python", "-c", ask, check=False)
        found = [line for line in page.splitlines() if line.startswith("millrace_stage_partitions{")]
        held.append(int(float(found[0].split()[-1])) if found else 0)
    return sum(held) if all(held) else 0
