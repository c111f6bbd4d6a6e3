"""When mosquitto is stopped before its disk is full, and when it starts again."""

from pathlib import Path

import pytest

from local import guard
from local.disks import Space
from local.guard import MosquittoGuard

MIB = 1 << 20
SIZE = 400 * MIB


class Recorder:
    """The two methods of a supervisor that the guard calls; `hold` prepares the end of the service, as that does."""

    def __init__(self, watched: MosquittoGuard) -> None:
        self._watched = watched
        self.calls: list[str] = []

    def hold(self, name: str, now_s: float, why: str) -> None:
        self._watched.before_stop()
        self.calls.append(f"hold {name}")

    def release(self, name: str) -> None:
        self.calls.append(f"release {name}")


class Disk:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        (folder / "mosquitto.db").write_bytes(bytes(MIB))
        self.guard = MosquittoGuard(folder)
        self.supervisor = Recorder(self.guard)
        self._free = 0
        monkeypatch.setattr(guard, "space", lambda path: Space(path, self._free, SIZE))

    def look(self, free: int) -> list[str]:
        """The calls after a look at so many free bytes."""
        self._free = free
        self.guard(self.supervisor)  # type: ignore[arg-type]
        return self.supervisor.calls

    @property
    def reserve(self) -> int:
        file = self.folder / "reserve"
        return file.stat().st_size if file.exists() else 0


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


def test_a_disk_that_is_full_at_once_ends_it_with_the_room_of_the_reserve(disk: Disk) -> None:
    assert disk.look(200 * MIB) == []
    assert disk.reserve > 2 * MIB
    assert disk.look(0) == [], "others still write"
    assert disk.look(0) == ["hold mosquitto"]
    assert disk.reserve == 0, "its room is for the save"


def test_it_is_ended_while_its_save_fits_and_starts_when_there_is_twice_the_limit(disk: Disk) -> None:
    disk.look(30 * MIB)
    assert disk.look(24 * MIB) == [], "others take more in four looks than would be left"
    assert disk.look(24 * MIB) == ["hold mosquitto"]
    assert disk.look(40 * MIB) == ["hold mosquitto"]
    assert disk.look(100 * MIB) == ["hold mosquitto", "release mosquitto"]
    assert disk.reserve > 2 * MIB


def test_without_a_reserve_it_goes_on_with_what_it_has_in_memory(disk: Disk) -> None:
    for _ in range(3):
        assert disk.look(MIB) == []
    assert disk.look(10 * MIB) == ["hold mosquitto"]
