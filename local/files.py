"""Files that the platform writes: readable by their owner only, never through a symbolic link, replaced as a whole."""

import os
from pathlib import Path
from typing import IO

_PRIVATE = 0o600


def append(file: Path) -> IO[bytes]:
    """Open a file for writing at its end. Raises OSError (ELOOP) where a symbolic link has its name."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(file, flags, _PRIVATE), "ab")


def replace(file: Path, data: bytes) -> None:
    """Write a file as a whole: a reader sees the old or the new content, also where the disk is full (OSError)."""
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, _PRIVATE), "wb") as out:
            out.write(data)
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def overwrite(file: Path, data: bytes) -> None:
    """Write into the blocks that a file has, for a full disk; the rest becomes spaces. Raises OSError when they are too
    few, or where the file system moves blocks at a write (btrfs, ZFS)."""
    with os.fdopen(os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+b") as out:
        size = os.fstat(out.fileno()).st_size
        if size < len(data):
            raise OSError(f"{file} has {size} bytes, too few for {len(data)}")
        out.write(data.ljust(size))
