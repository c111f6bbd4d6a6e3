"""The commands on a platform that `millrace up` started, with messages of real devices."""

import shutil
import time
from pathlib import Path

import pytest

from tests.chaos.accounts import account
from tests.chaos.publishers import Publisher
from tests.chaos.running import Running


def publish(running: Running, devices: list[str], messages: int) -> list[Publisher]:
    found = [Publisher(device, running.endpoint("mqtt"), 200.0, True, False) for device in devices]
    for publisher in found:
        publisher.start()
    for publisher in found:
        while publisher.published < messages:
            time.sleep(0.05)
        publisher.stop_publishing()
        publisher.finish()
    return found


def lose(running: Running, *engines: str) -> None:
    """The platform ends, and the disks of some engines are gone; the engines restart without services."""
    running.command("down")
    for engine in engines:
        shutil.rmtree(running.data / engine)
    running.command("up", "--insecure-loopback", "--engines-only", "--detach")


def start(running: Running) -> None:
    running.command("down")
    running.command("up", "--insecure-loopback", "--detach")


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_platform_comes_back_from_its_backup_after_the_loss_of_clickhouse_and_then_of_kafka_too(
    tmp_path: Path,
) -> None:
    with Running(tmp_path / "data") as running:
        publishers = publish(running, ["early-0", "early-1"], 500)
        running.command("backup", str(tmp_path / "first"))
        publishers += publish(running, ["late-0"], 500)
        running.wait_quiet(at_least=sum(p.published for p in publishers))

        lose(running, "clickhouse")
        running.command("restore", str(tmp_path / "first"))
        start(running)
        ledger = running.wait_quiet(at_least=sum(p.published for p in publishers))
        assert account(running, publishers)[1:] == (0, 0)
        assert [section["difference"] for section in ledger.values()] == [0, 0, 0]
        running.command("ledger", "verify")

        running.command("backup", str(tmp_path / "second"))
        lose(running, "clickhouse", "kafka")
        running.command("restore", str(tmp_path / "second"), "--accept-loss")
        start(running)
        publishers += publish(running, ["after-0"], 500)
        ledger = running.wait_quiet(at_least=sum(p.published for p in publishers))
        print(f"\n{ledger}")
        assert account(running, publishers)[1:] == (0, 0)
        assert [section["difference"] for section in ledger.values()] == [0, 0, 0]
        running.command("ledger", "verify")
