"""`millrace up`, `status` and `down` as people run them: one platform, on data that outlives it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local import status
from local.folder import prepare
from local.platform import PORTS, USUAL, Platform
from local.ports import is_free
from local.services import SERVICES
from runtime.errors import RefusedError

LIMIT_S = 90.0
ENGINES = ("kafka", "clickhouse", "mosquitto")


def millrace(*arguments: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=2 * LIMIT_S)


def status_of(data: Path) -> dict[str, Any]:
    """What `millrace status --json` prints, but for the ledger."""
    found = status.read(data)
    assert found is not None
    return found


def printed(data: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(millrace("status", "--json", "--data", str(data)).stdout)
    return found


def service(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(s for s in found["services"] if s["name"] == name)


def until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    data = tmp_path_factory.mktemp("platform") / "data"
    done = millrace("up", "--data", str(data), "--detach", "--insecure-loopback")
    assert done.returncode == 0, done.stderr
    yield data
    millrace("down", "--data", str(data))


def test_status_tells_of_every_service_and_endpoint(data: Path) -> None:
    found = printed(data)
    assert found["ready"] is True
    assert [s["name"] for s in found["services"]] == [*ENGINES, *(row.name for row in SERVICES)]
    for one in found["services"]:
        assert one["restarts"] == 0
        assert one["state"] == ("done" if one["name"] == "init" else "running")
        assert one["pid"] is None if one["name"] == "init" else os.path.exists(f"/proc/{one['pid']}")
    assert set(found["endpoints"]) == set(USUAL)
    assert all(found["endpoints"].values())
    assert found["ledger"]["messages"]["difference"] == 0
    assert set(found["ledger"]["readings"]) == {"produced", "stored", "in_flight", "difference"}


def test_clients_find_everything_in_run_env(data: Path) -> None:
    lines = status.environment(data)
    found = status_of(data)["endpoints"]
    assert lines["MILLRACE_KAFKA_BOOTSTRAP"] == found["kafka"]
    assert lines["MILLRACE_DEVICE_MQTT_URL"] == found["mqtt"]
    assert lines["MILLRACE_DEVICE_MQTTS_URL"] == found["mqtts"]
    assert lines["MILLRACE_DEVICE_HTTP_URL"] == found["http"]
    for name in ("CA_FILE", "CLICKHOUSE_PASSWORD_FILE", "ANALYST_PASSWORD_FILE"):
        assert Path(lines[f"MILLRACE_{name}"]).exists()


def test_a_first_message_as_up_and_the_readme_give_it_reaches_this_platform(data: Path) -> None:
    command = status_of(data)["command"]
    port = millrace("status", "--port", "mqtt", "--data", str(data)).stdout.strip()
    assert status_of(data)["endpoints"]["mqtt"] == f"mqtt://127.0.0.1:{port}"
    assert f" -p {port} " in command
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert "mosquitto_pub -V 5 -q 1 -p $(.venv/bin/millrace status --port mqtt)" in readme
    subprocess.run(["sh", "-c", command], check=True)
    until(lambda: (printed(data)["ledger"] or {"messages": {"accepted": 0}})["messages"]["accepted"] >= 1, "stored")


@pytest.mark.parametrize("more", [("--json",), ("--port", "mqtt")])
def test_status_where_nothing_ever_ran_is_an_error_that_says_how_to_start(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    done = millrace("status", "--data", str(tmp_path / "none"), *more)
    assert done.returncode != 0 and not done.stdout
    assert "`millrace up" in done.stderr


def test_prometheus_finds_the_metrics_of_every_service_in_run_targets(data: Path) -> None:
    listed = json.loads((data / "run" / "targets.json").read_text())
    assert [t["labels"]["service"] for t in listed] == [row.name for row in SERVICES if not row.one_shot]
    for target in listed:
        with urllib.request.urlopen(f"http://{target['targets'][0]}/metrics", timeout=5) as answer:
            assert b"millrace_ready 1.0" in answer.read(), target


def test_a_second_up_on_the_same_data_says_so_and_stops(data: Path) -> None:
    done = millrace("up", "--data", str(data))
    assert done.returncode == 1
    assert "runs already" in done.stderr
    until(lambda: bool(status_of(data)["ready"]), "it goes on")


@pytest.mark.parametrize("name", ["mosquitto", "sink"])
def test_what_is_killed_with_9_comes_back_and_is_counted(data: Path, name: str) -> None:
    before = service(status_of(data), name)
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: service(status_of(data), name)["restarts"] == before["restarts"] + 1, f"{name} was not restarted")
    until(lambda: bool(status_of(data)["ready"]), f"not ready after {name} was killed")
    assert service(status_of(data), name)["pid"] != before["pid"]


def test_nothing_outlives_an_up_that_is_killed_with_9_and_the_data_serve_again(data: Path) -> None:
    found = status_of(data)
    pids = [s["pid"] for s in found["services"] if s["pid"]]
    os.kill(found["supervisor"], signal.SIGKILL)
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "something was left behind")
    assert status_of(data)["ready"] is False
    assert {s["state"] for s in status_of(data)["services"]} == {"stopped"}
    done = millrace("up", "--data", str(data), "--detach")
    assert done.returncode == 0, done.stderr
    assert any("(epoch 0)" in line for line in (data / "logs" / "init.log").read_text().splitlines()[-8:])
    assert status_of(data)["endpoints"]["mqtt"] is None


def test_down_leaves_nothing(data: Path) -> None:
    pids = [s["pid"] for s in status_of(data)["services"] if s["pid"]]
    done = millrace("down", "--data", str(data))
    assert (done.returncode, done.stdout) == (0, "stopped\n")
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert {s["state"] for s in status_of(data)["services"]} == {"stopped"}
    assert millrace("down", "--data", str(data)).stdout == f"nothing runs on {data}\n"


def test_a_port_that_is_taken_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setitem(USUAL, "kafka", taken.getsockname()[1])  # type: ignore[misc]
        platform = Platform.on(tmp_path, insecure=False)
        assert platform.port["kafka"] != USUAL["kafka"]


def test_the_data_folder_has_one_holder(tmp_path: Path) -> None:
    prepare(tmp_path)
    with status.lock(tmp_path):
        assert status.is_running(tmp_path)
        assert status.pid_of(tmp_path) == os.getpid()
        with pytest.raises(status.RunsAlreadyError, match="millrace down"), status.lock(tmp_path):
            pass
    assert not status.is_running(tmp_path)


def test_a_start_waits_for_programs_that_a_killed_up_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "LEFT_BEHIND_S", 0.2)
    data = prepare(tmp_path / "data")
    with status.lock(data) as programs:
        left = subprocess.Popen(["sleep", "600"], pass_fds=[programs])
    try:
        assert not status.is_running(data)
        with pytest.raises(status.RunsAlreadyError, match="still run after"), status.lock(data):
            pass
    finally:
        left.kill()
        left.wait()
    with status.lock(data):
        pass


def test_the_ports_of_the_last_start_are_taken_again(tmp_path: Path) -> None:
    first = prepare(tmp_path / "data")
    ports = {name: 20_000 + number for number, name in enumerate(USUAL)}
    (first / "run" / PORTS).write_text(json.dumps(ports))
    taken = [name for name, port in ports.items() if not is_free(port)]
    found = Platform.on(first, insecure=True).port
    assert {name: port for name, port in found.items() if name not in taken} == {
        name: port for name, port in ports.items() if name not in taken
    }


def test_what_the_machine_lacks_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from local import platform

    monkeypatch.setattr(platform.shutil, "which", lambda name, path=None: None)
    monkeypatch.setattr(platform.kafka, "JARS", tmp_path)
    lacking = {what.what.split()[0]: what.command for what in platform.missing()}
    assert set(lacking) == {"mosquitto", "Java", "Kafka's"}
    assert lacking["Kafka's"] == "make setup"


def test_the_number_of_brokers_is_that_of_the_first_start(tmp_path: Path) -> None:
    three = Platform.on(tmp_path / "three", False, 3)
    assert len(three.bootstrap.split(",")) == 3
    assert {spec.name for spec in three.specs()} >= {"kafka", "kafka-2", "kafka-3"}
    for broker in three.brokers:
        broker.folder.mkdir(parents=True)
    (tmp_path / "three" / "kafka.cluster").write_text("x")
    assert len(Platform.on(tmp_path / "three", False).brokers) == 3
    with pytest.raises(RefusedError, match="several brokers, not of 1"):
        Platform.on(tmp_path / "three", False, 1)
    (tmp_path / "one" / "kafka").mkdir(parents=True)
    with pytest.raises(RefusedError, match="one broker, not of 3"):
        Platform.on(tmp_path / "one", False, 3)
    assert len(Platform.on(tmp_path / "one", False).brokers) == 1


def test_every_port_is_given_once(tmp_path: Path) -> None:
    for number in range(20):
        platform = Platform.on(tmp_path / str(number), True, 3)
        given = [*platform.port.values(), *platform.probes.values()]
        given += [broker.port for broker in platform.brokers[1:]]
        given += platform.brokers[0].controller_ports
        assert len(set(given)) == len(given)
