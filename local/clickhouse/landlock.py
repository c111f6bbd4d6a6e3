"""Landlock, by its three system calls: this process gives up files and the network, and cannot take them back.

Linux, Documentation/userspace-api/landlock.rst. Restrictions hold for the calling thread and the threads it starts:
apply them while the process has one thread. ABI 2 (Linux 5.19) is the first that lets a database rename files between
folders; ABI 4 (6.7) adds TCP; ABI 6 (6.12) abstract Unix sockets and signals.
"""

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""The same numbers on every architecture."""
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_NO_NEW_PRIVS: Final = 38

_READ: Final = 1 << 2 | 1 << 3  # READ_FILE, READ_DIR
_WRITE: Final = (
    1 << 1  # WRITE_FILE
    | 1 << 4  # REMOVE_DIR
    | 1 << 5  # REMOVE_FILE
    | 1 << 7  # MAKE_DIR
    | 1 << 8  # MAKE_REG
    | 1 << 13  # REFER: rename and link between folders
    | 1 << 14  # TRUNCATE, from ABI 3 on
)
"""No devices, sockets or symbolic links, and nothing is executed."""
_OF_FILES: Final = 1 << 1 | 1 << 2 | 1 << 14
"""What a rule for a file, and not a folder, may hold."""
_FILES: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Every right over files that an ABI knows: what no rule gives is refused."""
_TCP: Final = 1 << 0 | 1 << 1  # BIND, CONNECT
_SCOPES: Final = 1 << 0 | 1 << 1  # abstract Unix sockets, signals

FILES_ABI: Final = 2
NETWORK_ABI: Final = 4

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The version of Landlock that this kernel has switched on; 0: none."""
    found: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    return max(found, 0)


def restrict(readable: Iterable[Path], writable: Iterable[Path], version: int) -> None:
    """From now on open only what lies below these paths; from ABI 4 on, bind and connect no TCP socket.

    Sockets and files that are open stay so. Raises OSError where the kernel refuses.
    """
    files = _FILES[min(version, max(_FILES))]
    ruleset = _ruleset(files, _TCP if version >= NETWORK_ABI else 0, _SCOPES if version >= 6 else 0)
    try:
        for paths, rights in ((readable, _READ), (writable, _READ | _WRITE)):
            for path in paths:
                _allow(ruleset, path, rights & files)
        _check(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
        _check(_libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def _ruleset(files: int, network: int, scopes: int) -> int:
    attributes = struct.pack("=QQQ", files, network, scopes)
    size = 24 if scopes else 16 if network else 8
    made: int = _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    return _check(made, "landlock_create_ruleset")


def _allow(ruleset: int, path: Path, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", rights if path.is_dir() else rights & _OF_FILES, descriptor)
        added = _libc.syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0))
        _check(added, f"landlock_add_rule {path}")
    finally:
        os.close(descriptor)


def _check(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result
