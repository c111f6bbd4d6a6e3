"""What the engine of the local ClickHouse needs to start is within its reach."""

import subprocess
import sys
from pathlib import Path

_READ = """
from pathlib import Path
from local.clickhouse.sandbox import confine
confine(Path())
print(len(Path("/proc/self/auxv").read_bytes()))
"""


def test_the_engine_reads_its_auxiliary_vector_and_does_not_guess_it_from_the_environment(tmp_path: Path) -> None:
    """Without it chdb takes the memory behind the environment for the vector, and crashes at some sizes of it."""
    argv = [sys.executable, "-c", _READ]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        argv, cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
