"""`millrace restart` says ready of what stays up. Real processes under the real supervisor."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import orjson
import pytest

from cli import restart
from cli.restart import RestartError
from local import status
from local.supervisor import Spec, Supervisor
from schemas.topics import STAGES
from tests.local.toys import toy
from tests.support.waiting import wait_for

Start = Callable[[str, str], None]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Runs a script as a service, whose status is in the data folder `tmp_path`; returns once it was ready."""
    over = threading.Event()
    threads: list[threading.Thread] = []
    for folder in ("run", "logs"):
        (tmp_path / folder).mkdir()

    def supervise(supervisor: Supervisor) -> None:
        while not over.wait(0.02):
            supervisor.look(time.monotonic())
        supervisor.drain()

    def started(name: str, script: str) -> None:
        ready, specs = threading.Event(), [Spec(name, partial(toy, tmp_path, name, script))]
        publisher = status.Publisher(tmp_path / "run")

        def changed(services: object) -> None:
            found = status.describe(list(supervisor.services.values()), specs, {})
            publisher.publish("status.json", orjson.dumps(found))
            if found["ready"]:
                ready.set()

        supervisor = Supervisor(specs, tmp_path / "logs", changed)
        threads.append(threading.Thread(target=supervise, args=(supervisor,)))
        threads[-1].start()
        wait_for(ready.is_set, f"{name} is ready")

    with status.lock(tmp_path):
        yield started
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(("script", "why"), [("sleep 0.3; exit 78", "it needs a decision"), ("sleep 0.3; exit 70", "")])
def test_a_service_that_ends_soon_after_it_was_ready_is_not_called_ready(
    start: Start, tmp_path: Path, script: str, why: str
) -> None:
    start("access", script)
    with pytest.raises(RestartError, match=rf"^access was ready and ended within .*{why}.*millrace restart access`"):
        restart.watch(tmp_path, ["access"], steady_s=60.0)


def test_a_service_that_stays_up_is_ready(start: Start, tmp_path: Path) -> None:
    start("access", "while :; do sleep 0.05; done")
    restart.watch(tmp_path, ["access"], steady_s=0.5)


def test_the_order_of_a_restart_has_every_stage_before_what_it_reads() -> None:
    assert [name for name in restart.ORDER if name in STAGES] == ["presence", "anomaly", "aggregate", "access"]
    assert restart.ORDER.index("sink") < restart.ORDER.index("access") < restart.ORDER.index("relay")
