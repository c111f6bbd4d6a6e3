"""What the process that runs queries gives up before the engine is loaded: all files but its data, and the network.

The engine reads and writes files by functions, table functions, formats, settings and clauses, and chdb asks no grant
for some of them. The kernel refuses instead: after `confine` nobody's SQL, the owner's neither, opens a key, a
password, /proc/self/environ or a socket. ADR 22 says why it is Landlock.
"""

import contextlib
import ctypes
import logging
import os
import sysconfig
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local.clickhouse import landlock

log = logging.getLogger(__name__)

_LIBRARIES: Final = ("librt.so.1", "libdl.so.2", "libm.so.6", "libpthread.so.0", "libresolv.so.2", "libutil.so.1")
"""Parts of the C library that the engine links to: loaded before, since /usr/lib is out of reach later."""
_FACTS: Final = (
    "/proc/self/auxv",
    "/proc/self/maps",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
)
"""Where the engine and the C library look for the size of stack, memory and CPU. They contain nothing else.

Without auxv the engine takes what follows the environment in memory for it, and crashes or not by the environment's
size."""
_KEPT: Final = ("TZ", "LANG", "LC_ALL", "PATH")
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000


@dataclass(frozen=True, slots=True)
class Confinement:
    """What the kernel enforces. `complete`: analysts may be served."""

    files: bool
    network: bool

    @property
    def complete(self) -> bool:
        return self.files and self.network

    @property
    def in_reach(self) -> str:
        """What the engine can reach although it should not, for messages; empty where the confinement is complete."""
        return " and ".join(what for what, kept in (("files", self.files), ("the network", self.network)) if not kept)


def confine(folder: Path, version: int | None = None) -> Confinement:
    """Keep `folder`/db and `folder`/tmp to write, `folder`/etc and Python's packages to read, and no environment.

    Listen before; load the engine after. Call it while the process has one thread. `version`: the ABI of Landlock, the
    kernel's own if None. Where the kernel lacks something, the result says so, and nothing is raised.
    """
    if threading.active_count() > 1:
        raise RuntimeError("confine() before the first thread: threads that exist would stay unconfined")
    version = landlock.abi() if version is None else version
    for name in _LIBRARIES:
        with contextlib.suppress(OSError):  # another C library has other parts
            ctypes.CDLL(name)
    written = [folder / "db", folder / "tmp"]
    for path in written:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    _forget_environment((folder / "tmp").absolute())
    network = version >= landlock.NETWORK_ABI or _leave_network()
    if version < landlock.FILES_ABI:
        return Confinement(False, network)
    landlock.restrict(_readable(folder), written, version)
    return Confinement(True, network)


def _forget_environment(temporary: Path) -> None:
    for name in set(os.environ) - set(_KEPT):
        del os.environ[name]
    os.environ["TMPDIR"] = str(temporary)


def _readable(folder: Path) -> Iterator[Path]:
    packages = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    for path in (folder / "etc", *map(Path, sorted(packages)), *map(Path, _FACTS)):
        if path.exists():
            yield path


def _leave_network() -> bool:
    """A network namespace of one's own, which has no interfaces; a socket that listens already goes on working."""
    left: int = ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    return left == 0
