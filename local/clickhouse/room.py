"""Room on the engine's disk: the engine ends before anything is acknowledged that a full disk has not taken.

chdb 4.4 ignores a write that fails with ENOSPC: a part whose files are empty is renamed and the insert is acknowledged;
a merge replaces good parts by such a one (strace: each write returns -1 ENOSPC, then rename). While less than `keep`
bytes are free the engine itself refuses inserts and merges. Where others take the rest while it writes, `watch` and
`check` end the process: what it had not acknowledged is sent again, and at the next start parts whose files do not fit
their checksums are set aside and the sources of a merge are read instead. docs/adr/0023-full-disks.md.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local.disks import low, space

log = logging.getLogger(__name__)

FULL_EXIT: Final = 75
"""EX_TEMPFAIL: the supervisor starts it again, and again until there is room."""
_KEEP_PART: Final = 2
_LEAST_PART: Final = 8
"""Of the bytes below which local/disks.py calls a disk full: so few are kept free, so few end the process."""
_LOOK_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Room:
    """`folder`: the front's, with the engine's data in `db`."""

    folder: Path

    @property
    def keep_bytes(self) -> int:
        """What the engine leaves free: with less, inserts and merges are refused (code 243)."""
        return low(space(self.folder).size) // _KEEP_PART

    def check(self) -> None:
        """Call it between a write and its acknowledgement. Ends the process on a full disk."""
        found = space(self.folder)
        if found.free < found.low // _LEAST_PART:
            self._end(found.free)

    def watch(self) -> None:
        """Check from now on in a thread of its own, for what the engine does by itself (merges)."""
        threading.Thread(target=self._watch, name="room", daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.check()
            time.sleep(_LOOK_S)

    def _end(self, free: int) -> None:
        """The tokens of inserts are forgotten: a token that was kept of an insert that was not would refuse the retry,
        which names the rows that are there already (sinks/adapters/tables.py) and needs no token."""
        for tokens in self.folder.glob("db/store/*/*/deduplication_logs/*"):
            with contextlib.suppress(OSError):
                tokens.unlink()
        with contextlib.suppress(OSError):
            log.error("the disk is full: the engine is stopped until there is room", extra={"free": free})
            sys.stderr.flush()
        os._exit(FULL_EXIT)
