"""Stops mosquitto before its disk is full, while there is room to save what it acknowledged; starts it when there is.

mosquitto 2.0 saves its queue by writing a second file and renaming it over the first, without asking whether the write
went well: on a full disk the queue on disk becomes empty. Hence, below `low` free bytes it is ended as at `millrace
down`: it takes no more and saves. Where others took all the rest in a moment, a reserve, a file beside its own, is
given up for that save. Until twice `low` is free and the reserve is back, devices are refused a connection: what they
have not had acknowledged stays with them. docs/adr/0023-full-disks.md.
"""

import logging
import os
import time
from pathlib import Path
from typing import Final

from local.disks import Space, space
from local.engines.queue_file import LAST, SAVED
from local.supervisor import Supervisor

log = logging.getLogger(__name__)

NAME: Final = "mosquitto"
GROWTH_BYTES: Final = 16 << 20
GROWTH_SHARE: Final = 64
"""What the queue may grow until the next look: so many bytes or, on a small disk, a sixty-fourth of it."""
_MARGIN: Final = 4
"""A save fits when it still would after so many looks in which as many bytes are taken as in the last."""
_LINK_S: Final = 1.0


class Reserve:
    """A file that keeps bytes of a disk from others."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @property
    def size(self) -> int:
        return self._file.stat().st_size if self._file.exists() else 0

    def hold(self, size: int) -> bool:
        """Whether at least `size` bytes are held now."""
        if self.size >= size:
            return True
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)
        except OSError:
            self.release()
            return False
        return True

    def release(self) -> None:
        self._file.unlink(missing_ok=True)


class MosquittoGuard:
    """Call at each look of the supervisor. `folder` is mosquitto's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reserve = Reserve(folder / "reserve")
        self._stopped = False
        self._waits = False
        self._free = 0
        self._link_at_s = 0.0

    def __call__(self, supervisor: Supervisor) -> None:
        if not self._folder.exists():
            return
        found = space(self._folder)
        if self._stopped:
            self._start_again(supervisor, found)
        elif found.free < found.low:
            self._stop(supervisor, found)
        else:
            self._keep_ready(found)
        self._free = found.free

    def before_stop(self) -> None:
        """mosquitto is about to end and save."""
        self._reserve.release()

    def _needed(self, found: Space) -> int:
        """Bytes for a save beside the one before, which has grown since. On a full disk only LAST shows its size."""
        files = [file for file in (self._folder / SAVED, self._folder / LAST) if file.exists()]
        growth = min(GROWTH_BYTES, found.size // GROWTH_SHARE)
        return 2 * max((file.stat().st_size for file in files), default=0) + growth

    def _keep_ready(self, found: Space) -> None:
        self._waits = False
        now_s = time.monotonic()
        if now_s < self._link_at_s:
            return
        self._link_at_s = now_s + _LINK_S
        if found.free > found.low + self._needed(found):
            self._reserve.hold(self._needed(found))
        keep_last(self._folder)

    def _stop(self, supervisor: Supervisor, found: Space) -> None:
        """End it as soon as its save fits, the reserve included, which `before_stop` gives up: not while others take
        what is free faster than it is written. Until then it goes on: it has everything in memory."""
        taken = max(0, self._free - found.free)
        if found.free + self._reserve.size - _MARGIN * taken >= self._needed(found):
            wanted = self._wanted(found) / 2**20
            why = f"the disk of {self._folder} is full: it starts again when {wanted:,.1f} MiB are free"
            log.error("mosquitto is stopped: %s", why, extra={"free": found.free})
            supervisor.hold(NAME, time.monotonic(), why)
            self._stopped = True
        elif not self._waits:
            log.error("the disk of %s is full: mosquitto cannot save its queue yet", self._folder)
            self._waits = True

    def _wanted(self, found: Space) -> int:
        return 2 * found.low + self._needed(found)

    def _start_again(self, supervisor: Supervisor, found: Space) -> None:
        if found.free >= self._wanted(found) and self._reserve.hold(self._needed(found)):
            log.warning("the disk of %s has free space again: mosquitto starts", self._folder)
            supervisor.release(NAME)
            self._stopped = self._waits = False


def keep_last(folder: Path) -> None:
    """Give the newest save a second name, LAST: the next one, should it fail, takes only the first."""
    saved, last, new = folder / SAVED, folder / LAST, folder / f".{LAST}.new"
    if not saved.exists() or (last.exists() and saved.samefile(last)):
        return
    new.unlink(missing_ok=True)
    try:
        new.hardlink_to(saved)
    except FileNotFoundError:  # it was replaced just now
        return
    new.replace(last)
