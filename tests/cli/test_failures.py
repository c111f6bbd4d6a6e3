"""Every command on bad input (settings that are wrong, servers that are away, no platform): lines and an exit code.

COMMANDS lists every command with arguments that are right, and the settings that it reads; a command that is missing
here fails the first test.
"""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from cli.errors import Exit
from cli.init import InitSettings
from cli.main import millrace
from cli.sql import SqlSettings
from local.fleet.settings import FleetSettings
from monitoring.notify.settings import NotifySettings
from monitoring.receivers import ReceiverSettings
from operations.backup import BackupSettings
from operations.doctor import DoctorSettings
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.errors import RetryableError
from runtime.retry import RetryPolicy
from runtime.settings import KafkaSettings
from streams.access.policy import shipped

Settings = tuple[type[Any], ...]


@dataclass(frozen=True)
class Case:
    """A command's arguments after its name, and the settings that it reads. `local`: it is about a folder, not a
    platform; `alone`: it needs no platform."""

    words: tuple[str, ...] = ()
    reads: Settings = ()
    local: bool = False
    alone: bool = False


K: Settings = (KafkaSettings,)
C: Settings = (ClickHouseSettings,)
B: Settings = (KafkaSettings, ClickHouseSettings)
COMMANDS: dict[str, Case] = {
    "up": Case(local=True),
    "down": Case(local=True),
    "status": Case(local=True),
    "scale": Case(("access=1",), local=True),
    "restart": Case(("sink",), local=True),
    "init": Case((), (InitSettings,)),
    "keys": Case(("--dir", "{folder}/keys"), alone=True),
    "demo": Case(("--seconds", "2"), alone=True),
    "device add": Case(("d-1", "--role", "meter"), K),
    "device list": Case((), K),
    "device show": Case(("d-1",), K),
    "device remove": Case(("d-1",), K),
    "device role": Case(("d-1", "--role", "meter"), K),
    "device token": Case(("d-1",), K),
    "device renew": Case(("d-1", "--cert", "/nowhere"), K),
    "policy check": Case(("{folder}/policy.yaml",), alone=True),
    "policy apply": Case(("{folder}/policy.yaml",), K),
    "policy show": Case((), K),
    "policy history": Case((), C),
    "policy rollback": Case(("0/1",), B),
    "detector check": Case(("{folder}/detectors.yaml",), alone=True),
    "detector apply": Case(("{folder}/detectors.yaml",), K),
    "detector show": Case((), K),
    "detector history": Case((), C),
    "detector rollback": Case(("0/1",), B),
    "presence check": Case(("{folder}/empty.yaml",), alone=True),
    "presence apply": Case(("{folder}/empty.yaml",), K),
    "presence show": Case((), K),
    "presence history": Case((), C),
    "presence rollback": Case(("0/1",), B),
    "presence list": Case((), C),
    "windows check": Case(("{folder}/empty.yaml",), alone=True),
    "windows apply": Case(("{folder}/empty.yaml",), K),
    "windows show": Case((), K),
    "windows history": Case((), C),
    "windows rollback": Case(("0/1",), B),
    "incident list": Case((), C),
    "incident show": Case(("0123456789abcdef",), B),
    "incident mark": Case(("0123456789abcdef", "--confirmed"), B),
    "backtest": Case(("{folder}/detectors.yaml",), B),
    "fleet simulate": Case(("--devices", "1", "--seconds", "1"), (FleetSettings,)),
    "fleet replay": Case(("{folder}/a.csv",), (FleetSettings, ClickHouseSettings)),
    "stage inspect": Case(("access",), K),
    "stage skip": Case(("access", "--partition", "0", "--offset", "1", "--reason", "broken"), K),
    "stage reset": Case(("access", "--partition", "0", "--from-oldest", "--reason", "lost"), K),
    "tail": Case(("telemetry.raw",), K),
    "size": Case(("--devices", "10"), alone=True),
    "sql": Case(("SELECT 1",), (SqlSettings,)),
    "trace": Case(("d-1",), B),
    "replay": Case(("denied", "--since", "1h"), B),
    "ledger": Case((), C),
    "ledger verify": Case((), B),
    "backup": Case(("{folder}/backup",), (BackupSettings,)),
    "restore": Case(("{folder}/backup",), (BackupSettings,)),
    "rebuild": Case(("readings",), B),
    "correct": Case(("--from", "2h", "--to", "1h"), B),
    "doctor": Case((), (DoctorSettings,)),
    "detect": Case(("{folder}/a.csv",), alone=True),
    "monitoring": Case(("{folder}/m", "--alertmanager", "{folder}/am.yml"), (ReceiverSettings,), alone=True),
    "notify": Case((), (NotifySettings,)),
    "bench": Case(("nothing",), alone=True),
}
SPEAKING = [name for name, case in COMMANDS.items() if case.reads and not case.alone]


def leaves(group: click.Group, before: str = "") -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                yield before + name
            yield from leaves(command, f"{before}{name} ")
        else:
            yield before + name


def test_every_command_has_its_case_here() -> None:
    assert sorted(leaves(millrace)) == sorted(COMMANDS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "policy.yaml").write_text(shipped("loopback"))
    (folder / "detectors.yaml").write_text("rules:\n  - metric: heat\n    detectors: [limits: {high: 100}]\n")
    (folder / "empty.yaml").write_text("{}\n")
    (folder / "a.csv").write_text("timestamp,value\n2026-01-01T00:00:00Z,1\n")
    (folder / "am.yml").write_text("route: {receiver: critical}\n")
    return folder


@pytest.fixture(scope="module")
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        yield server.getsockname()[1]


def arguments(name: str, folder: Path) -> list[str]:
    return [*name.split(), *(word.format(folder=folder) for word in COMMANDS[name].words)]


def call(name: str, files: Path, environment: dict[str, str], *more: str) -> Result:
    """Run it in a folder without a platform, with this environment alone."""
    clean: dict[str, str | None] = {key: None for key in os.environ if key.startswith("MILLRACE_")}
    runner = CliRunner(env=clean | environment)
    with runner.isolated_filesystem():
        return runner.invoke(millrace, [*arguments(name, files), *more])


def check(done: Result, code: Exit, *words: str) -> None:
    assert "Traceback" not in done.output, done.output
    assert done.exit_code == code, (done.exit_code, done.output)
    for word in words:
        assert word in done.stderr, done.stderr
    assert done.stderr.count("\n") <= 12, done.stderr


def wrong_values(cls: type[Any], field: "dataclasses.Field[Any]") -> Iterator[str]:
    """Values that the setting must refuse."""
    kind, meta = typing.get_type_hints(cls)[field.name], field.metadata
    if kind in (int, float, bool):
        yield "abc"
    if kind in (int, float):
        yield "nan"
    if meta["low"] is not None:
        yield str(meta["low"] - 1)
    if meta["high"] is not None:
        yield str(meta["high"] + 1)
    if meta["choices"]:
        yield "no-such-choice"
    if meta["readable"]:
        yield from ("/nonexistent/file", "/proc")
    yield from {"kafka_bootstrap": ("", "host:port", "host:99999"), "clickhouse_url": ("", "x", "http://h:99999/")}.get(
        field.name, ()
    )
    if field.name == "http_bind":
        yield from ("::1", "127.0.0.1:70000", "no-such-host.invalid:1")


@pytest.mark.parametrize("name", SPEAKING)
def test_a_wrong_setting_is_named_and_no_traceback(name: str, files: Path, silent: int) -> None:
    tried = 0
    for cls in COMMANDS[name].reads:
        for field in dataclasses.fields(cls):
            for value in wrong_values(cls, field):
                setting = f"MILLRACE_{field.name.upper()}"
                right = {
                    "MILLRACE_KAFKA_BOOTSTRAP": f"127.0.0.1:{silent}",
                    "MILLRACE_CLICKHOUSE_URL": f"http://127.0.0.1:{silent}/",
                }
                check(call(name, files, right | {setting: value}), Exit.CONFIG, setting)
                tried += 1
    assert tried


def test_init_waits_for_kafka_only_so_long_and_says_what_it_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cli.init._PATIENCE", RetryPolicy(first_s=0.01, longest_s=0.01, deadline_s=0.1))
    monkeypatch.setenv("MILLRACE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("MILLRACE_CLICKHOUSE_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("cli.init.topics.ensure", _away)
    found = CliRunner().invoke(millrace, ["init"], standalone_mode=False)
    assert isinstance(found.exception, RetryableError)
    assert caplog.messages == ["topics: Kafka is away; trying again"]


def _away(*_given: object) -> None:
    raise RetryableError("Kafka is away")


@pytest.mark.parametrize("name", [n for n in SPEAKING if n not in ("notify", "doctor", "init")])
def test_a_server_that_is_away_is_named_with_the_setting_that_says_where(name: str, files: Path, silent: int) -> None:
    places = {"MILLRACE_KAFKA_BOOTSTRAP": "kafka_bootstrap", "MILLRACE_CLICKHOUSE_URL": "clickhouse_url"}
    there = {
        "MILLRACE_KAFKA_BOOTSTRAP": f"127.0.0.1:{silent}",
        "MILLRACE_CLICKHOUSE_URL": f"http://127.0.0.1:{silent}/",
    }
    away = {"MILLRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1", "MILLRACE_CLICKHOUSE_URL": "http://127.0.0.1:1/"}
    fields = {field.name for cls in COMMANDS[name].reads for field in dataclasses.fields(cls)}
    for setting, field in places.items():
        if field in fields:
            done = call(name, files, there | {setting: away[setting]})
            check(done, Exit.UNAVAILABLE, "cannot be reached at 127.0.0.1:1", setting, "of the environment")


@pytest.mark.parametrize("name", [n for n, case in COMMANDS.items() if not case.alone and n != "up"])
def test_without_a_platform_nothing_is_guessed(name: str, files: Path) -> None:
    done = call(name, files, {})
    check(done, Exit.CONFIG, "millrace up")
    assert "127.0.0.1" not in done.output


@pytest.mark.parametrize("name", [n for n, case in COMMANDS.items() if not case.alone and n != "up"])
def test_a_wrong_folder_is_an_error_whatever_the_environment_says(name: str, files: Path, silent: int) -> None:
    right = {
        "MILLRACE_KAFKA_BOOTSTRAP": f"127.0.0.1:{silent}",
        "MILLRACE_CLICKHOUSE_URL": f"http://127.0.0.1:{silent}/",
    }
    words = [*arguments(name, files)]
    at = 1 if name == "ledger verify" else len(words)
    words[at:at] = ["--data", "/nonexistent"]
    done = CliRunner(env=right).invoke(millrace, words)
    check(done, Exit.CONFIG, "/nonexistent", "millrace up --data /nonexistent")


@pytest.mark.parametrize("name", [n for n, case in COMMANDS.items() if case.alone and n not in ("demo", "keys")])
def test_commands_that_need_no_platform_do_not_look_for_one(name: str, files: Path) -> None:
    done = call(name, files, {"MILLRACE_KAFKA_BOOTSTRAP": "nonsense", "MILLRACE_DATA": "/nonexistent"})
    assert done.exit_code in (Exit.OK, Exit.FAILED, Exit.USAGE), done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_wrong_usage_ends_with_2(name: str) -> None:
    environment = {"MILLRACE_CLICKHOUSE_URL": "http://127.0.0.1:1/"}  # `ledger` looks for its platform first
    done = CliRunner(env=environment).invoke(millrace, [*name.split(), "--no-such-option"])
    check(done, Exit.USAGE, "No such option")


# --- real processes


def process(words: list[str], environment: dict[str, str], cwd: Path) -> "subprocess.CompletedProcess[str]":
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MILLRACE_")}
    argv = [sys.executable, "-m", "cli.main", *words]
    root = {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        argv, env=clean | root | environment, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_command_as_a_process_ends_the_same_way(tmp_path: Path) -> None:
    done = process(["sql", "SELECT 1"], {"MILLRACE_CLICKHOUSE_TIMEOUT_S": "abc"}, tmp_path)
    assert (done.returncode, done.stdout) == (Exit.CONFIG, "")
    settings = {"MILLRACE_CLICKHOUSE_URL": "http://127.0.0.1:1/", "MILLRACE_CLICKHOUSE_TIMEOUT_S": "abc"}
    done = process(["sql", "SELECT 1"], settings, tmp_path)
    assert (done.returncode, done.stdout) == (Exit.CONFIG, "")
    assert done.stderr == (
        "millrace: MILLRACE_CLICKHOUSE_TIMEOUT_S='abc': expected a number"
        " (time-out of one request, seconds; then it is retried)\n"
    )


def test_a_server_that_never_answers_is_given_up_in_a_line(silent: int, tmp_path: Path) -> None:
    settings = {"MILLRACE_CLICKHOUSE_URL": f"http://127.0.0.1:{silent}/", "MILLRACE_CLICKHOUSE_TIMEOUT_S": "1"}
    done = process(["incident", "list"], settings, tmp_path)
    assert done.returncode == Exit.UNAVAILABLE, done.stderr
    assert "Traceback" not in done.stderr
    assert f"asked: the platform of the environment (ClickHouse http://127.0.0.1:{silent}/)" in done.stderr
    done = process(["device", "list"], {"MILLRACE_KAFKA_BOOTSTRAP": f"127.0.0.1:{silent}"}, tmp_path)
    assert done.returncode == Exit.UNAVAILABLE, done.stderr
    assert "Traceback" not in done.stderr
    assert f"asked: the platform of the environment (Kafka 127.0.0.1:{silent})" in done.stderr


def test_a_closed_pipe_ends_a_command_without_a_word(tmp_path: Path) -> None:
    command = f"{sys.executable} -m cli.main size --devices 1000 --json; echo $? >&2"
    root = {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"}
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        ["bash", "-c", command], stdout=write, stderr=subprocess.PIPE, env=os.environ | root, cwd=tmp_path, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    os.close(write)
    assert done.stderr == f"{Exit.CLOSED_PIPE.value}\n"


def test_ctrl_c_ends_a_command_in_a_line(silent: int, tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "MILLRACE_CLICKHOUSE_URL": f"http://127.0.0.1:{silent}/",
        "PYTHONUNBUFFERED": "1",
    }
    with socket.create_server(("127.0.0.1", 0)) as server:
        environment["MILLRACE_CLICKHOUSE_URL"] = f"http://127.0.0.1:{server.getsockname()[1]}/"
        argv = [sys.executable, "-m", "cli.main", "sql", "SELECT 1"]
        child = subprocess.Popen(
            argv,
            env=environment,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a run in the background ignores it
        )
        server.settimeout(60)
        server.accept()[0].close()  # the look whether it is there
        asked, _ = server.accept()
        with asked:
            assert asked.recv(10)  # it waits for an answer now
            child.send_signal(signal.SIGINT)
            _, said = child.communicate(timeout=60)
    assert (child.returncode, said) == (Exit.INTERRUPTED, "\nmillrace: interrupted\n")


def test_the_table_of_exit_codes_is_the_one_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    listed = {int(line.split("|")[1]) for line in page.splitlines() if line.startswith("| ") and line[2].isdecimal()}
    assert listed == {code.value for code in Exit}
