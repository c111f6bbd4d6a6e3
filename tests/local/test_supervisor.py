"""The supervisor over real processes: order, restarts, drain, and nothing left behind."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local.programs import Program, ProgramError, launch
from local.states import Service, State
from local.supervisor import Spec, Supervisor, bound_logs
from tests.local.toys import gone, toy


def supervise(folder: Path, *specs: Spec) -> Supervisor:
    (folder / "logs").mkdir()
    return Supervisor(specs, folder / "logs")


def until(supervisor: Supervisor, happened: Callable[[], bool], limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < deadline, supervisor.services
        supervisor.look(time.monotonic())
        time.sleep(0.01)


def test_services_start_after_what_they_need_and_end_in_reverse(tmp_path: Path) -> None:
    names = ("engine", "setup", "first", "second")
    scripts = {"setup": "sleep 0.1"}
    after = {"setup": ("engine",), "first": ("setup",), "second": ("first",)}
    supervisor = supervise(
        tmp_path,
        *(
            Spec(
                n,
                lambda n=n: toy(tmp_path, n, scripts.get(n, "while :; do sleep 0.05; done")),
                after.get(n, ()),
                n == "setup",
            )
            for n in names
        ),
    )
    until(supervisor, lambda: supervisor.is_ready)
    pids = [s.pid for s in supervisor.services.values() if s.pid]
    supervisor.drain()
    assert (tmp_path / "started").read_text().split() == list(names)
    assert (tmp_path / "ended").read_text().split() == ["second", "first", "engine"]
    assert all(map(gone, pids))
    assert {s.state for n, s in supervisor.services.items() if n != "setup"} == {State.STOPPED}


def test_a_service_killed_with_9_is_restarted_and_counted(tmp_path: Path) -> None:
    supervisor = supervise(tmp_path, Spec("a", lambda: toy(tmp_path, "a")))
    until(supervisor, lambda: supervisor.is_ready)
    first = supervisor.services["a"].pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(supervisor, lambda: supervisor.services["a"].restarts == 1 and supervisor.is_ready)
    assert supervisor.services["a"].pid != first
    supervisor.drain()


def test_a_service_that_asks_to_stay_down_is_left_alone(tmp_path: Path) -> None:
    supervisor = supervise(
        tmp_path, Spec("bad", lambda: toy(tmp_path, "bad", "exit 64")), Spec("good", lambda: toy(tmp_path, "good"))
    )
    until(supervisor, lambda: supervisor.services["bad"].state is State.FAILED)
    until(supervisor, lambda: supervisor.services["good"].is_well)
    assert "settings" in (supervisor.services["bad"].why or "")
    supervisor.drain()
    assert (tmp_path / "started").read_text().split().count("bad") == 1


def test_a_start_that_cannot_go_on_ends_what_runs(tmp_path: Path) -> None:
    def impossible() -> Program:
        raise ProgramError("it is not installed")

    seen: list[list[Service]] = []
    specs = [
        Spec("good", lambda: toy(tmp_path, "good")),
        Spec("bad", impossible),
        Spec("later", lambda: toy(tmp_path, "later"), after=("bad",)),
    ]
    (tmp_path / "logs").mkdir()
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        asked = Supervisor(specs, tmp_path / "logs", lambda s: seen.append(list(s))).run()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert not asked
    last = {service.name: service for service in seen[-1]}
    assert (last["bad"].state, last["bad"].why) == (State.FAILED, "it is not installed")
    assert (last["good"].state, last["later"].state) == (State.STOPPED, State.STOPPED)


def test_a_service_that_cannot_be_started_on_a_full_disk_is_tried_again(tmp_path: Path) -> None:
    tries: list[int] = []

    def program() -> Program:
        tries.append(len(tries))
        if len(tries) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return toy(tmp_path, "a")

    supervisor = supervise(tmp_path, Spec("a", program))
    supervisor.look(time.monotonic())
    assert supervisor.services["a"].state is State.RESTARTING
    assert "No space left" in (supervisor.services["a"].why or "")
    until(supervisor, lambda: supervisor.is_ready)
    assert len(tries) == 3
    supervisor.drain()


def test_the_supervisor_survives_a_write_that_fails(tmp_path: Path) -> None:
    looks: list[bool] = []

    def on_a_full_disk(supervisor: Supervisor) -> None:
        looks.append(supervisor.is_ready)
        if supervisor.is_ready and len(looks) > 3:
            supervisor.request_stop()
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "logs").mkdir()
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    specs = [Spec("a", lambda: toy(tmp_path, "a"))]
    try:
        assert Supervisor(specs, tmp_path / "logs", at_each_look=(on_a_full_disk,)).run()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert (tmp_path / "ended").read_text() == "a\n"


def test_a_service_held_with_a_reason_says_it_until_it_is_released(tmp_path: Path) -> None:
    supervisor = supervise(tmp_path, Spec("a", lambda: toy(tmp_path, "a")))
    until(supervisor, lambda: supervisor.is_ready)
    supervisor.hold("a", time.monotonic(), "the disk is full")
    until(supervisor, lambda: supervisor.services["a"].state is State.STOPPED)
    assert supervisor.services["a"].why == "the disk is full"
    supervisor.release("a")
    until(supervisor, lambda: supervisor.is_ready)
    assert supervisor.services["a"].why is None
    supervisor.drain()


def test_a_service_that_is_held_is_prepared_for_its_end_first(tmp_path: Path) -> None:
    """mosquitto needs the room of its reserve for its last save."""
    alive: list[bool] = []
    supervisor = supervise(
        tmp_path,
        Spec("a", lambda: toy(tmp_path, "a"), before_stop=lambda: alive.append(pid_of(supervisor) is not None)),
    )
    until(supervisor, lambda: supervisor.is_ready)
    supervisor.hold("a", time.monotonic(), "the disk is full")
    assert alive == [True]
    until(supervisor, lambda: supervisor.services["a"].state is State.STOPPED)
    supervisor.drain()
    assert alive == [True]


def pid_of(supervisor: Supervisor) -> int | None:
    """Of the process of `a` while it runs."""
    pid = supervisor.services["a"].pid
    return pid if pid is not None and Path(f"/proc/{pid}").exists() else None


def test_one_that_is_never_ready_is_started_again(tmp_path: Path) -> None:
    def never() -> Program:
        return Program("slow", ("/bin/sleep", "100"), lambda: False)

    supervisor = supervise(tmp_path, Spec("slow", never, start_limit_s=0.2))
    until(supervisor, lambda: supervisor.services["slow"].restarts >= 1)
    supervisor.drain()


def test_one_that_ignores_the_end_is_killed(tmp_path: Path) -> None:
    program = Program(
        "deaf",
        ("/bin/sh", "-c", f"trap '' TERM; touch {tmp_path}/up; while :; do sleep 0.05; done"),
        (tmp_path / "up").exists,
        grace_s=0.2,
    )
    process = launch(program, tmp_path / "deaf.log", 5)
    assert process.stop() == -signal.SIGKILL


def test_a_program_that_ends_at_once_tells_its_log(tmp_path: Path) -> None:
    program = Program("liar", ("/bin/sh", "-c", "echo no such luck; exit 3"), lambda: False)
    with pytest.raises(ProgramError, match="ended with 3:\nno such luck"):
        launch(program, tmp_path / "liar.log", 5)


def test_programs_die_with_a_supervisor_that_is_killed_with_9(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tests.local.test_supervisor import toy\n"
        "from local.programs import launch\n"
        "folder = Path(sys.argv[1]); process = launch(toy(folder, 'a'), folder / 'a.log', 10)\n"
        "print(process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not gone(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone(pid)


def test_logs_are_bounded_while_their_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old\n" * 100)
        bound_logs(tmp_path, most_bytes=100)
        writer.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "a.log.1").read_bytes() == b"old\n" * 100
