"""One platform for the tests of the commands that need one."""

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner

from cli.main import millrace
from tests.chaos.running import Running


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("platform") / "data") as running:
        yield running


@pytest.fixture
def call(platform: Running) -> Callable[..., str]:
    """`call("tail", "telemetry.raw")`: the command's standard output; fails when it fails."""

    def run(*words: str) -> str:
        done = CliRunner().invoke(millrace, [*words, "--data", str(platform.data)], catch_exceptions=False)
        assert done.exit_code == 0, f"{words}: {done.exit_code}\n{done.output}"
        return done.stdout

    return run


@pytest.fixture
def refused(platform: Running) -> Callable[..., Exception]:
    """The error that a command ends with."""

    def run(*words: str) -> Exception:
        done = CliRunner().invoke(millrace, [*words, "--data", str(platform.data)], standalone_mode=False)
        assert isinstance(done.exception, Exception), done.output
        return done.exception

    return run
