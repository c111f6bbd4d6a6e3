"""A backup of a flowing platform, and what a sink makes of it after a restore, against real Kafka and ClickHouse."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from operations.backup import control
from runtime.kafka import topics
from schemas.control import Device, device_key
from schemas.headers import Version
from schemas.topics import CONTROL, RAW
from sinks.migrate import migrate
from tests.operations.conftest import Command
from tests.operations.flows import findings, flow, ok, stored
from tests.servers import KafkaServer
from tests.sinks.conftest import Stand, eventually


@pytest.mark.chaos
def test_what_came_after_a_backup_is_read_again_after_its_restore(
    make_stand: Callable[..., Stand], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand, folder = make_stand(2), tmp_path / "backup"
    stand.chains[0].device(Version(0, 3), Device("dev-0-1", "sensor", labels={"site": "north"}))
    sink = stand.sink()
    flow(stand, 30)
    stand.check()
    flow(stand, 30)  # and while that is written:
    ok(command(stand, "backup", str(folder)))
    flow(stand, 10)
    stand.check()
    before = stored(stand)

    with monkeypatch.context() as hurried:
        hurried.setattr(control, "EMPTY_S", 0.0)
        running = command(stand, "restore", str(folder), "--replace")
    assert "stop every sink" in str(running.exception)
    assert stored(stand) == before
    sink.kill(signal.SIGTERM)
    assert sink.end() == 0
    full = command(stand, "restore", str(folder))
    assert "readings holds" in str(full.exception) and stored(stand) == before

    ok(command(stand, "restore", str(folder), "--replace"))
    assert 0 < stored(stand) < before
    stand.sink()
    flow(stand, 10)
    stand.check()
    assert findings(stand) == []


def test_a_damaged_backup_changes_nothing(make_stand: Callable[..., Stand], command: Command, tmp_path: Path) -> None:
    stand, folder = make_stand(1), tmp_path / "backup"
    sink = stand.sink()
    flow(stand, 5)
    stand.check()
    ok(command(stand, "backup", str(folder)))
    assert "exists already" in str(command(stand, "backup", str(folder)).exception)
    sink.kill(signal.SIGTERM)
    sink.end()
    (file,) = folder.glob("readings.*.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    (folder / "ledger_facts.gone").touch()
    refused = str(command(stand, "restore", str(folder), "--replace").exception)
    assert f"{file.name} is not what was written" in refused and "nothing was changed" in refused
    assert stored(stand) == sum(stand.expected().readings.values())
    (folder / "manifest.json").unlink()
    assert "is no backup" in str(command(stand, "restore", str(folder)).exception)


@pytest.mark.chaos
def test_after_the_loss_of_kafka_and_clickhouse_names_go_on_in_the_next_epoch(
    make_stand: Callable[..., Stand], command: Command, kafka_fresh: Callable[[], KafkaServer], tmp_path: Path
) -> None:
    old, folder = make_stand(2), tmp_path / "backup"
    producer_key, device = device_key("dev-0-1"), Device("dev-0-1", "sensor", token="00" * 32)
    old.producer.produce(CONTROL, key=producer_key, value=device.encode())
    sink = old.sink()
    flow(old, 10)
    old.check()
    ok(command(old, "backup", str(folder)))
    sink.kill(signal.SIGTERM)
    sink.end()

    new = Stand(kafka_fresh(), old.clickhouse, old.name + "_new", tmp_path, 2)
    try:
        migrate(new.settings)
        lossy = command(new, "restore", str(folder))
        assert f"{RAW}[0]: the topic was created again" in str(lossy.exception)
        ok(command(new, "restore", str(folder), "--accept-loss"))
        known = topics.read_control(new.kafka_settings)
        assert known[producer_key][1] == device.encode()
        new.facts = topics.facts(new.kafka_settings, *new.facts)
        assert {name: fact.epoch for name, fact in new.facts.items()} == {
            name: fact.epoch + 1 for name, fact in old.facts.items()
        }
        new.chains = [new.chain(p) for p in range(2)]
        new.sink()
        flow(new, 10)
        for chain in new.chains:
            assert chain.stages
            chain.stages.quiet = True
        goal = new.goal()
        eventually(lambda: new.stored_with_ticks(goal), f"all is stored: {goal}")
        expected, derived = old.expected(), old.derived()
        expected.add(new.expected())
        derived.add(new.derived())
        new.check_rows(expected, derived)
        assert findings(new) == []
    finally:
        new.close()
