"""Nothing lost, nothing twice: real processes, killed at random, and a publisher that knows what it published."""

import os
from pathlib import Path

import pytest

from tests.chaos.accounts import account
from tests.chaos.publishers import Publisher
from tests.chaos.running import Killer, Running
from tests.support.waiting import wait_for

KILLS = int(os.environ.get("KILLS", "60"))
SEED = int(os.environ.get("SEED", "1"))


def _run(tmp_path: Path, kills: int, pause_s: tuple[float, float], crash_broker: bool) -> None:
    with Running(tmp_path / "data") as running:
        address = running.endpoint("mqtt")
        kinds = [(True, True)] * 3 if crash_broker else [(True, False)] * 3 + [(False, False)]
        publishers = [Publisher(f"chaos-{i}", address, 100.0, *kind) for i, kind in enumerate(kinds)]
        for publisher in publishers:
            publisher.start()
        wait_for(lambda: all(p.published > 100 for p in publishers), "a flow to kill in")
        killer = Killer(running, SEED, crash_broker)
        killer.run(kills, pause_s)
        for publisher in publishers:
            publisher.stop_publishing()
        running.wait_ready()
        for publisher in publishers:
            publisher.finish()
        ledger = running.wait_quiet(at_least=sum(p.published for p in publishers))
        messages, lost, doubled = account(running, publishers)
        print(f"\nkills {killer.total} {killer.kills}: messages {messages}, lost {lost}, doubled {doubled}; {ledger}")
        assert (lost, doubled) == (0, 0)
        assert [section["difference"] for section in ledger.values()] == [0, 0, 0]
        running.command("ledger", "verify")


@pytest.mark.timeout(300)
@pytest.mark.long
def test_nothing_is_lost_or_doubled_by_a_few_kills(tmp_path: Path) -> None:
    _run(tmp_path, kills=8, pause_s=(0.5, 3.0), crash_broker=False)


@pytest.mark.chaos
@pytest.mark.timeout(7200)
def test_nothing_is_lost_or_doubled_by_many_kills(tmp_path: Path) -> None:
    _run(tmp_path, kills=KILLS, pause_s=(0.3, 5.0), crash_broker=False)


@pytest.mark.chaos
@pytest.mark.timeout(7200)
def test_end_to_end_acknowledgement_survives_a_crashing_broker(tmp_path: Path) -> None:
    _run(tmp_path, kills=max(1, KILLS // 3), pause_s=(0.3, 5.0), crash_broker=True)
