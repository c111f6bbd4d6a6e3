"""A small service for the supervisor, and how to see that it ended."""

import os
from pathlib import Path

from local.programs import Program


def toy(folder: Path, name: str, script: str = "while :; do sleep 0.05; done") -> Program:
    """Says that it is ready, says its name when it is asked to end."""
    head = f"trap 'echo {name} >> {folder}/ended; exit 0' TERM; echo {name} >> {folder}/started; "
    up = folder / f"{name}.up"
    return Program(name, ("/bin/sh", "-c", f"{head} touch {up}; {script}"), up.exists, grace_s=10)


def gone(pid: int | None) -> bool:
    return not os.path.exists(f"/proc/{pid}")
