"""The stage of docs/how-to-add-a-stage.md: its code as it stands on the page, its own test, and a real Kafka."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.kafka import topics
from schemas import ipc
from schemas import topics as names
from tests.aggregate.support import data, reading, tick
from tests.servers import KafkaServer
from tests.support.service import StageService, until

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to-add-a-stage.md"
TOPIC = "telemetry.extremes"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with the files of the page in it."""
    tree = tmp_path_factory.mktemp("tree")
    files = dict(re.findall(r"^```python (\S+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    assert set(files) == {"streams/extremes.py", "tests/extremes/test_extremes.py"}
    for package in ("runtime", "schemas", "local", "pyproject.toml"):
        (tree / package).symlink_to(ROOT / package)
    for package in ("streams", "tests"):
        (tree / package).mkdir()
        for entry in (ROOT / package).iterdir():
            (tree / package / entry.name).symlink_to(entry)
    for name, code in files.items():
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(code)
    return tree


def test_the_pages_own_test_passes(tree: Path) -> None:
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/extremes/test_extremes.py"]
    done = subprocess.run(argv, cwd=tree, env=_environment(tree), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_its_code_is_as_ours_must_be(tree: Path) -> None:
    for argv in (["ruff", "check"], ["ruff", "format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", *argv, "--config", str(ROOT / "pyproject.toml"), "streams/extremes.py"],
            cwd=tree, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def service(
    kafka_fresh: Callable[[], KafkaServer], tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StageService]:
    for name, value in _environment(tree).items():
        monkeypatch.setenv(name, value)
    found = StageService(kafka_fresh(), tmp_path, "extremes", names.READINGS, 1)
    plans = topics.plans(1, 1, stages=("extremes",))
    config = next(plan.config for plan in plans if plan.name == names.READINGS)
    topics.ensure(found.settings, [*plans, topics.Plan(TOPIC, 1, config)], 1)
    yield found
    found.close()


def test_it_tells_each_extreme_once_through_a_kill(service: StageService) -> None:
    def send(first: int, end: int) -> None:
        for n in range(first, end):
            service.send(0, data(n, [reading("pump-1", float(n))]) if n % 4 else tick(n, n * 1000))
        service.flush()

    send(0, 40)
    service.start()
    until(lambda: service.high(TOPIC, 0) >= 20, 90, f"answers\n{service.log.read_text()}")
    service.end(signal.SIGKILL)
    send(40, 80)
    service.start()
    until(lambda: service.written(TOPIC, 0)[-1][0] == 79, 90, f"all answers\n{service.log.read_text()}")
    assert service.end(signal.SIGTERM) == 0
    told = service.written(TOPIC, 0)
    beaten = [
        row["value"] for _, found in told if found.value() for row in ipc.decode(found.value() or b"").to_pylist()
    ]
    assert beaten == [float(n) for n in range(2, 80) if n % 4]
    assert [src for src, found in told if not found.value()] == list(range(0, 80, 4)), "each tick is answered"


def _environment(tree: Path) -> dict[str, str]:
    """Imports come from the tree and not from where Python is started."""
    return os.environ | {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
