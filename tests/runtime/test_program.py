"""runtime.program: what a service ends with when it cannot start. Real processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.errors import EXIT_FATAL, EXIT_REFUSED

ROOT = Path(__file__).parents[2]
SERVICE = """
import sys
from runtime.errors import {error}
from runtime.program import main
from runtime.settings import ServiceSettings

async def serve(settings):
    raise {error}("telemetry.raw has 3 partitions but was made with 4: restore it")

main("toy", ServiceSettings, serve)
"""


@pytest.mark.parametrize(("error", "code"), [("RefusedError", EXIT_REFUSED), ("FatalError", EXIT_FATAL)])
def test_an_error_before_a_service_serves_is_one_line_and_its_own_exit_code(error: str, code: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SERVICE.format(error=error)], cwd=ROOT, env={}, capture_output=True, text=True
    )
    assert ended.returncode == code
    (line,) = ended.stderr.splitlines()
    assert "restore it" in json.loads(line)["message"]


def test_every_service_ends_with_the_exit_code_of_its_error_because_all_start_in_the_same_way() -> None:
    mains = [file for file in ROOT.glob("[a-z]*/**/__main__.py") if "tests" not in file.parts]
    assert len(mains) >= 9
    for file in mains:
        text = file.read_text()
        assert (
            "from runtime.program import main" in text
            or "from runtime.stage.worker import main" in text
            or (
                file.parent.name == "clickhouse"  # the local platform's engine, which is no service of the pipeline
            )
        ), f"{file.relative_to(ROOT)} does not start by runtime.program"
