"""As many of a service as are wanted: processes come, are drained and restart; mistakes are reported at once."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local import scale, status
from local.states import State
from local.supervisor import Spec, Supervisor
from runtime.errors import RefusedError
from tests.local.toys import gone, toy


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(RefusedError) as refused:
        scale.check({"acces": 2, "bridge": 2, "sink": 17, "access": 3})
    for part in ("no service acces", "bridge=2: 0 to 1", "sink=17: 0 to 16"):
        assert part in str(refused.value)
    assert "access=3" not in str(refused.value)


def test_workers_come_and_go_as_wanted_and_leave_in_peace(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    specs = [Spec(name, lambda name=name: toy(tmp_path, name)) for name in ("access", "sink")]
    follow = scale.Follower(tmp_path, lambda name, n: Spec(f"{name}-{n}", lambda: toy(tmp_path, f"{name}-{n}")))
    supervisor = Supervisor(specs, tmp_path / "logs")

    def until(happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not happened():
            assert time.monotonic() < deadline, supervisor.services
            follow(supervisor)
            supervisor.look(time.monotonic())
            time.sleep(0.01)

    def is_so(**wanted: int) -> Callable[[], bool]:
        scale.ask(tmp_path, wanted)
        return lambda: scale.matches(status.describe(list(supervisor.services.values()), supervisor.specs, {}), wanted)

    until(lambda: supervisor.is_ready)
    sink = supervisor.services["sink"].pid
    until(is_so(access=3))
    pids = {name: s.pid for name, s in supervisor.services.items()}
    assert set(pids) == {"access", "access-2", "access-3", "sink"}
    until(is_so(access=2))
    assert gone(pids["access-3"]) and not gone(pids["access-2"])
    until(is_so(access=0))
    assert gone(pids["access"]) and gone(pids["access-2"])
    assert supervisor.services["access"].state is State.STOPPED
    until(is_so(access=1))
    assert supervisor.services["access"].pid not in (None, pids["access"])
    assert supervisor.services["sink"].pid == sink, "what nobody asked for was touched"
    assert sorted((tmp_path / "ended").read_text().split()) == ["access", "access-2", "access-3"]
    supervisor.drain()


def test_what_does_not_end_in_its_grace_is_killed(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    stubborn = toy(tmp_path, "sink", "trap '' TERM; while :; do sleep 0.05; done")
    supervisor = Supervisor([Spec("sink", lambda: stubborn)], tmp_path / "logs")
    while not supervisor.is_ready:
        supervisor.look(time.monotonic())
        time.sleep(0.01)
    now = time.monotonic()
    supervisor.hold("sink", now)
    supervisor.look(now + stubborn.grace_s - 0.1)
    assert supervisor.services["sink"].state is State.STOPPING
    supervisor.look(now + stubborn.grace_s)
    supervisor.look(now + stubborn.grace_s)
    assert supervisor.services["sink"].state is State.STOPPED
