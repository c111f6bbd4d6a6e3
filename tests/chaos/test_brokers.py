"""Three Kafka brokers: one is lost permanently, with its disk, and nothing of what was acknowledged is."""

import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.chaos.accounts import account
from tests.chaos.publishers import Publisher
from tests.chaos.running import Running
from tests.support.waiting import wait_for

LOST = "kafka-2"
TIMES = 3
AWAY_S = 12.0
STANDSTILL_S = 15.0
_STANDSTILL = """
SELECT max(gap) FROM
(
    SELECT dateDiff('millisecond', lagInFrame(append_time, 1, append_time) OVER (
        PARTITION BY raw_partition ORDER BY raw_offset ROWS BETWEEN 1 PRECEDING AND CURRENT ROW), append_time) AS gap
    FROM ledger_received
)"""


class Three(Running):
    def __enter__(self) -> "Three":
        self.command("up", "--insecure-loopback", "--detach", "--kafka-brokers", "3")
        return self


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_losing_a_broker_and_its_disk_loses_nothing_and_the_flow_goes_on(tmp_path: Path) -> None:
    with Three(tmp_path / "data") as running:
        publishers = [Publisher(f"three-{i}", running.endpoint("mqtt"), 100.0, True, False) for i in range(3)]
        for publisher in publishers:
            publisher.start()
        wait_for(lambda: all(p.published > 300 for p in publishers), "a flow to kill in")
        for number in range(TIMES):
            assert running.signal(LOST, signal.SIGKILL)
            gone = (running.data / LOST).rename(tmp_path / f"disk-{number}")  # before it is started again
            time.sleep(AWAY_S)
            shutil.rmtree(gone)
        for publisher in publishers:
            publisher.stop_publishing()
        running.wait_ready()
        for publisher in publishers:
            publisher.finish()
        ledger = running.wait_quiet(at_least=sum(p.published for p in publishers))
        messages, lost, doubled = account(running, publishers)
        standstill_s = running.clickhouse().query(_STANDSTILL).result_rows[0][0] / 1000
        print(
            f"\n{LOST} killed with -9 and its disk removed {TIMES} times: messages {messages}, lost {lost}, doubled"
            f" {doubled}; longest standstill of a partition {standstill_s:.1f} s; {ledger}"
        )
        assert (lost, doubled) == (0, 0)
        assert all(section["difference"] == 0 for section in ledger.values())
        assert standstill_s < STANDSTILL_S
        running.command("ledger", "verify")
