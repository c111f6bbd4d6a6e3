"""More and fewer workers, a restart of all of them, and a drain, while publishers send: nothing lost, nothing twice."""

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.chaos.accounts import account
from tests.chaos.publishers import Publisher
from tests.chaos.running import Running

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "data") as found:
        yield found


def _publishers(running: Running) -> list[Publisher]:
    found = [Publisher(f"going-{i}", running.endpoint("mqtt"), 50.0, stamped=True, end_to_end=False) for i in range(6)]
    for publisher in found:
        publisher.start()
    time.sleep(2.0)
    return found


def _reconcile(running: Running, publishers: list[Publisher]) -> dict[str, dict[str, int]]:
    for publisher in publishers:
        publisher.stop_publishing()
        publisher.finish()
    ledger = running.wait_quiet(at_least=sum(p.published for p in publishers))
    messages, lost, doubled = account(running, publishers)
    print(f"\nmessages {messages}, lost {lost}, doubled {doubled}; {ledger}")
    assert messages > 0
    assert (lost, doubled) == (0, 0)
    assert all(section["difference"] == 0 for section in ledger.values())
    return ledger


def _pids(running: Running) -> dict[str, int | None]:
    return {s["name"]: s["pid"] for s in running.status()["services"]}


def _partitions(running: Running, name: str) -> int:
    where = next(s["metrics"] for s in running.status()["services"] if s["name"] == name)
    with urlopen(where, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return int(float(next(line.split()[-1] for line in lines if line.startswith("millrace_stage_partitions{"))))


def test_more_and_fewer_workers_while_messages_flow(running: Running) -> None:
    publishers = _publishers(running)
    running.command("scale", "access=3", "sink=2", "aggregate=2")
    names = set(_pids(running))
    assert {"access", "access-2", "access-3", "sink-2", "aggregate-2"} <= names
    time.sleep(5.0)
    shared = [_partitions(running, name) for name in ("access", "access-2", "access-3")]
    assert sum(shared) == 4 and all(shared), f"the workers do not share the partitions: {shared}"
    before = _pids(running)
    running.command("restart", "access")
    after = _pids(running)
    assert {name for name in before if before[name] != after[name]} == {"access", "access-2", "access-3"}
    running.command("scale", "access=1", "sink=1", "aggregate=1")
    assert not {"access-2", "access-3", "sink-2", "aggregate-2"} & set(_pids(running))
    assert running.status()["ready"]
    _reconcile(running, publishers)
    running.command("ledger", "verify")


def test_a_drained_host_holds_nothing_in_flight(running: Running) -> None:
    publishers = _publishers(running)
    running.command("scale", "bridge=0", "bridge-http=0")
    time.sleep(3.0)  # mosquitto holds what comes meanwhile
    ledger = running.wait_quiet()
    assert all(section["difference"] == 0 for section in ledger.values())
    rest = ("relay", "access", "aggregate", "anomaly", "presence", "sink", "watch")
    running.command("scale", *(f"{name}=0" for name in rest))
    assert all(running.pid(name) is None for name in ("bridge", "bridge-http", *rest))
    held = running.ledger()
    assert not held["messages"]["in_flight"] and not held["readings"]["in_flight"]
    running.command("scale", "bridge=1", "bridge-http=1", *(f"{name}=1" for name in rest))
    _reconcile(running, publishers)
