"""How full disks are, as df says: what only root may use counts for nothing."""

import os
from collections.abc import Sequence

from monitoring.watch import metrics
from monitoring.watch.settings import Disk


def look(disks: Sequence[Disk]) -> None:
    """Raises OSError when a folder cannot be checked; the others are checked all the same."""
    wrong: list[OSError] = []
    for disk in disks:
        try:
            found = os.statvfs(disk.path)
        except OSError as error:
            wrong.append(error)
            continue
        metrics.DISK_FREE.labels(disk.name).set(found.f_bavail * found.f_frsize)
        metrics.DISK_SIZE.labels(disk.name).set((found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize)
    if wrong:
        raise OSError("; ".join(map(str, wrong)))
