"""The data folder: that nobody but its owner can enter it, and that every engine can work below its name."""

import os
import stat
from pathlib import Path
from typing import Final

from runtime.errors import MillraceError

PRIVATE: Final = 0o700
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class DataFolderError(MillraceError):
    """The data folder cannot be used; the message says why and which command fixes it."""


def prepare(data: Path) -> Path:
    """Make the data folder with run/ and logs/, for this user alone; its absolute path. Raises DataFolderError.

    A folder that another user owns or may write to is refused: who can put a link into it chooses which of our
    files the platform overwrites, and what its services read.
    """
    try:
        data = data.resolve()
        _check_name(data)
        for folder in (data, data / "run", data / "logs"):
            folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
            _make_private(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
        why = getattr(error, "strerror", None) or error
        raise DataFolderError(f"{data} cannot be used: {why}: choose another folder with --data") from error
    return data


def _check_name(data: Path) -> None:
    name = str(data)
    if not name.isprintable():
        raise DataFolderError(f"{name!r}: control characters or bytes that are not UTF-8: choose another --data")


def _make_private(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise DataFolderError(f"{folder} is not a folder (a link, perhaps): remove it, or choose another --data")
    if found.st_uid != os.geteuid():
        raise DataFolderError(
            f"{folder} belongs to user {found.st_uid}, not to user {os.geteuid()} who starts the platform:"
            " choose another folder with --data"
        )
    if found.st_mode & _OTHERS_WRITE:
        raise DataFolderError(
            f"{folder} may be written by other users (mode {stat.S_IMODE(found.st_mode):o}):"
            f" check its contents, then run `chmod 700 {folder}`"
        )
    if stat.S_IMODE(found.st_mode) != PRIVATE:
        folder.chmod(PRIVATE)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataFolderError(f"{folder} is read-only: choose another folder with --data")
