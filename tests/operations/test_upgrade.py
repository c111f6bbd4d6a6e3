"""Services are put on new code, and a second (broker, bridge) pair joins, while devices speak: nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import millrace
from cli.restart import ORDER
from local.engines.mosquitto import BRIDGE_USER, Mosquitto
from local.ports import LOOPBACK, free
from local.programs import launch
from local.services import SERVICES, is_ready
from local.status import environment
from runtime.errors import MillraceError
from tests.chaos.accounts import account
from tests.chaos.publishers import Publisher
from tests.chaos.running import Running

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("platform") / "data") as found:
        yield found


@pytest.fixture
def second_pair(running: Running, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Another broker with a bridge of its own, on the same Kafka; where devices reach it."""
    tls, plain, probes = free(3)
    authority = running.data / "identity"
    broker = Mosquitto(tmp_path / "mosquitto", authority, tls, plain, "millrace.bridge.1")
    process = launch(broker.program(), tmp_path / "mosquitto.log", 20)
    platform = environment(running.data)
    own = os.environ | {
        "MILLRACE_KAFKA_BOOTSTRAP": platform["MILLRACE_KAFKA_BOOTSTRAP"],
        "MILLRACE_KAFKA_SECURITY": platform["MILLRACE_KAFKA_SECURITY"],
        "MILLRACE_INSTANCE": "1",
        "MILLRACE_MQTT_URL": broker.bridge_url,
        "MILLRACE_MQTT_USER": BRIDGE_USER,
        "MILLRACE_MQTT_PASSWORD_FILE": str(broker.bridge_password_file),
        "MILLRACE_HTTP_BIND": f"{LOOPBACK}:{probes}",
    }
    with (tmp_path / "bridge.log").open("w") as log:
        bridge = subprocess.Popen([sys.executable, "-m", "bridge.mqtt"], env=own, stdout=log, stderr=log)
    ready, deadline = is_ready(probes), time.monotonic() + 30
    while not ready():
        assert time.monotonic() < deadline, (tmp_path / "bridge.log").read_text()
        time.sleep(0.1)
    yield LOOPBACK, plain
    bridge.send_signal(signal.SIGTERM)
    assert bridge.wait(30) == 0, (tmp_path / "bridge.log").read_text()
    process.stop()


@pytest.mark.long
def test_every_service_is_restarted_and_a_second_pair_joins_and_nothing_is_lost_or_doubled(
    running: Running, second_pair: tuple[str, int]
) -> None:
    before = {s["name"]: s["pid"] for s in running.status()["services"]}
    addresses = [running.endpoint("mqtt")] * 2 + [second_pair] * 2
    publishers = [Publisher(f"upgrade-{n}", where, 100.0, True, False) for n, where in enumerate(addresses)]
    for publisher in publishers:
        publisher.start()
    time.sleep(1)
    said = running.command("restart")
    for publisher in publishers:
        publisher.stop_publishing()
    for publisher in publishers:
        publisher.finish()
    after = {s["name"]: s["pid"] for s in running.status()["services"]}
    assert {name for name in before if before[name] != after[name]} == set(ORDER)
    assert [line.split()[0] for line in said.splitlines()] == list(ORDER)
    ledger = running.wait_quiet(at_least=sum(p.published for p in publishers))
    messages, lost, doubled = account(running, publishers)
    print(f"\n{said}{messages} messages through two pairs, lost {lost}, doubled {doubled}; {ledger['messages']}")
    assert (lost, doubled) == (0, 0)
    assert [section["difference"] for section in ledger.values()] == [0, 0, 0]


def test_every_service_of_ours_is_in_the_order() -> None:
    assert sorted(ORDER) == sorted(row.name for row in SERVICES if not row.one_shot)


@pytest.mark.long
def test_what_cannot_be_restarted_is_named(running: Running, tmp_path: Path, refused: Callable[..., Exception]) -> None:
    assert "kafka: expected some of sink" in str(refused("restart", "kafka", "sink", "--data", str(running.data)))
    error = refused("restart", "--data", str(tmp_path))
    assert isinstance(error, MillraceError)
    assert f"`millrace up --data {tmp_path}` starts one" in str(error)


@pytest.fixture
def refused() -> Callable[..., Exception]:
    def run(*words: str) -> Exception:
        done = CliRunner().invoke(millrace, list(words), standalone_mode=False)
        assert isinstance(done.exception, Exception), done.output
        return done.exception

    return run
