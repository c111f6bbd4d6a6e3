"""Ports: what is promised to one process is not given to another, even before anything listens there."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from local import ports

_PROCESSES = 6
_ALLOCATE = """
import sys
from local import ports
usual, more = ports.allocate([int(word) for word in sys.argv[1:]], 40)
print(*usual, *more, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def usual() -> list[int]:
    """Ports that nobody was promised and on which nothing listens."""
    return [port for port in range(33_000, 36_000) if ports.is_free(port)][:5]


@pytest.fixture
def processes(usual: list[int]) -> Iterator[list["subprocess.Popen[str]"]]:
    """Platforms that start at once and want the same ports."""
    argv = [sys.executable, "-c", _ALLOCATE, *map(str, usual)]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) for _ in range(_PROCESSES)]
    yield started
    for process in started:
        process.communicate(timeout=30)


def _given(process: "subprocess.Popen[str]") -> list[int]:
    assert process.stdout is not None
    return [int(word) for word in process.stdout.readline().split()]


def test_processes_that_choose_at_once_get_different_ports(
    usual: list[int], processes: list["subprocess.Popen[str]"]
) -> None:
    given = [port for process in processes for port in _given(process)]
    assert len(given) == len(set(given)) == _PROCESSES * 45
    assert set(usual) < set(given), "each usual port is given to the first who asks"


def test_a_promise_ends_with_its_process(usual: list[int]) -> None:
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", _ALLOCATE, *map(str, usual)],
            input="", capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        assert [int(word) for word in done.stdout.split()][:5] == usual
