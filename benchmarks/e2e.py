"""The whole platform and its fleet on this machine: what it sustains, and how long a message takes to be queryable."""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.figures import Figure
from tests.chaos.running import ROOT, Running

DEVICES = 1_000
FULL_RATE, FULL_S = 10_000, 60
CALM_RATE, CALM_S = 2_000, 30


def figures() -> Iterable[Figure]:
    """e2e_msgs_per_s, e2e_steady_msgs_per_s with e2e_lag_growth_s, and e2e_p50_ms, e2e_p99_ms."""
    with tempfile.TemporaryDirectory() as folder:
        with Running(Path(folder) / "full") as running:
            yield from _sustained(running)
        with Running(Path(folder) / "calm") as running:
            yield from _delays(running)


def _sustained(running: Running) -> Iterable[Figure]:
    """Messages acknowledged a second, from the fleet's first to its last PUBACK, and how the backlog moved."""
    backlog = Backlog(running)
    backlog.start()
    report = run_fleet(running, FULL_RATE, FULL_S)
    samples = backlog.stop()
    ledger = running.wait_quiet()
    received = ledger["messages"]["received"]
    third = max(1, len(samples) // 3)
    grown = mean(samples[-third:]) - mean(samples[third : 2 * third])
    took_s = report["send_s"] + report["drain_s"]
    yield Figure("e2e_msgs_per_s", received / took_s, "messages/s", "asked for", FULL_RATE)
    yield Figure("e2e_steady_msgs_per_s", _steady(running), "messages/s", "asked for", FULL_RATE)
    yield Figure("e2e_lag_growth_s", grown / FULL_RATE, "s")
    yield Figure("e2e_difference", ledger["messages"]["difference"] + ledger["readings"]["difference"], "messages")


def _steady(running: Running) -> float:
    """Messages a second whose verdict ClickHouse stored, from ten seconds after the first one until sending ended."""
    return float(
        running.clickhouse()
        .query(
            "WITH (SELECT min(received_from) FROM ledger_facts WHERE kind = 'data') AS begin"
            " SELECT sum(accepted + denied + dead_letters + duplicates) FROM ledger_facts WHERE kind = 'data'"
            f" AND stored_at BETWEEN begin + INTERVAL 10 SECOND AND begin + INTERVAL {FULL_S} SECOND"
        )
        .result_rows[0][0]
        / (FULL_S - 10)
    )


def _delays(running: Running) -> Iterable[Figure]:
    """Received to queryable (`stored_at`: when ClickHouse had the insert), at a rate that leaves room."""
    run_fleet(running, CALM_RATE, CALM_S)
    running.wait_quiet()
    rows = running.clickhouse().query(
        "SELECT quantiles(0.5, 0.99)(date_diff('ms', received_at, stored_at)) FROM readings"
        " WHERE received_at > (SELECT min(received_at) FROM readings) + INTERVAL 5 SECOND"
    )
    p50, p99 = rows.result_rows[0][0]
    yield Figure("e2e_p50_ms", p50, "ms")
    yield Figure("e2e_p99_ms", p99, "ms")


def run_fleet(running: Running, rate: int, seconds: int) -> dict[str, Any]:
    words = ("--devices", str(DEVICES), "--rate", str(rate), "--seconds", str(seconds), "--json")
    argv = [sys.executable, "-m", "cli.main", "fleet", "simulate", *words, "--data", str(running.data)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, timeout=seconds + 300)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


class Backlog(threading.Thread):
    """Samples how many messages are on their way, once a second, from the ledger."""

    def __init__(self, running: Running) -> None:
        super().__init__(daemon=True)
        self._running, self._stopped, self._samples = running, threading.Event(), list[float]()

    def run(self) -> None:
        client = self._running.clickhouse()
        while not self._stopped.is_set():
            late = client.query("SELECT date_diff('ms', max(received_from), now64(3)) FROM ledger_facts").result_rows
            self._samples.append(float(late[0][0]) / 1000 * FULL_RATE)
            time.sleep(1.0)

    def stop(self) -> list[float]:
        self._stopped.set()
        self.join()
        return self._samples
