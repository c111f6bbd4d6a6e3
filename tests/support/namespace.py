"""Runs a module in a mount namespace of its own, where it may mount small file systems; they end with it."""

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
WAYS: Final = (("unshare", "-Urm", "--"), ("unshare", "-m", "--"))
"""As a user, by a user namespace; as root, where the kernel allows none."""


def run(module: str, *arguments: str, timeout_s: float) -> str:
    """What `python -m module` printed. Fails when it fails, and where this machine allows no mount namespace."""
    way = next(
        (way for way in WAYS if subprocess.run([*way, "true"], capture_output=True, check=False).returncode == 0), None
    )
    assert way, "this machine allows no mount namespace (unshare -Urm true): allow user namespaces, or run as root"
    argv = [*way, sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=timeout_s
    )
    assert done.returncode == 0, f"{module} {arguments}: {done.returncode}\n{done.stdout}"
    return done.stdout
