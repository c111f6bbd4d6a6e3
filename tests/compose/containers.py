"""docker compose, and what it says of the containers."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]


LAB = "tests/compose/lab.yml"


OVERRIDES: list[str] = []
"""Files beside docker-compose.yml."""


VICTIMS = ("kafka", "clickhouse", "mosquitto", "relay", "bridge", "bridge-http", "access", "aggregate", "anomaly",
           "presence", "sink", "watch")  # fmt: skip


PROFILES = ("--profile", "tools", "--profile", "fleet", "--profile", "monitoring")


def command(*arguments: str) -> list[str]:
    files = ["docker-compose.yml", *OVERRIDES, *((LAB,) if os.environ.get("COMPOSE_LAB") else ())]
    return ["docker", "compose", "-p", "millrace-test", *(word for name in files for word in ("-f", name)), *arguments]


def compose(*arguments: str, check: bool = True, timeout_s: float = 300) -> str:
    argv = command(*arguments)
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout_s)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def operator(*arguments: str) -> str:
    return compose("run", "-T", "--rm", "--no-deps", "operator", *arguments)


def ledger() -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = json.loads(operator("ledger", "--json").strip().splitlines()[-1])
    return found


def states() -> dict[str, dict[str, Any]]:
    lines = compose("ps", "-a", "--format", "json").splitlines()
    return {row["Service"]: row for row in map(json.loads, lines)}


def inspect(service: str) -> dict[str, Any]:
    name = compose("ps", "-q", service).strip().splitlines()[0]
    done = subprocess.run(["docker", "inspect", name], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def until(what: Any, within_s: float, why: str) -> Any:
    return wait_for(what, lambda: f"{why}: {states()}", within_s, every_s=0.5)


def is_well(row: dict[str, Any] | None) -> bool:
    return row is not None and row["State"] == "running" and row["Health"] == "healthy"


def quiet(received: int) -> dict[str, dict[str, int]] | None:
    totals = ledger()
    settled = not any(section["in_flight"] for section in totals.values())
    return totals if settled and totals["messages"]["received"] >= received else None
