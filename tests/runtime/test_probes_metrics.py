"""What health shows as metrics: an alert can name the check that fails."""

from collections.abc import Callable, Iterator

import pytest
from prometheus_client import REGISTRY

from runtime.probes import Probes
from tests.support.waiting import wait_for


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


@pytest.fixture
def make() -> Iterator[Callable[..., Probes]]:
    made: list[Probes] = []

    def probes(silence_s: float = 30.0) -> Probes:
        made.append(Probes("127.0.0.1:0", silence_s))
        made[-1].start()
        made[-1].started()
        return made[-1]

    yield probes
    for one in made:
        one.stop()


def test_metrics_name_the_check_that_fails_and_forget_it_when_it_passes(make: Callable[..., Probes]) -> None:
    wrong: list[str | None] = ["no tick for 20 s"]
    probes = make()
    probes.checks["ticks"] = lambda: wrong[0]
    probes.show()
    assert (shown("millrace_ready"), shown("millrace_live")) == (0, 1)
    assert shown("millrace_check_failed", check="ticks") == 1
    wrong[0] = None
    probes.show()
    assert shown("millrace_ready") == 1
    assert shown("millrace_check_failed", check="ticks") is None


def test_a_loop_that_hangs_is_not_live(make: Callable[..., Probes]) -> None:
    probes = make(silence_s=0.01)

    def dead() -> bool:
        probes.show()
        return shown("millrace_live") == 0

    wait_for(dead, "the silence to be noticed")
    assert shown("millrace_ready") == 0
    assert shown("millrace_check_failed", check="loop") == 1
