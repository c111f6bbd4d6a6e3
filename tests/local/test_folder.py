"""The data folder is its owner's alone, and nothing that others put there is followed."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from local import files
from local.folder import DataFolderError, prepare
from tests.support import namespace


def test_the_data_folder_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        data = prepare(tmp_path / "parent" / "data")
    finally:
        os.umask(before)
    for folder in (data, data / "run", data / "logs"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_others_could_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    assert stat.S_IMODE(prepare(tmp_path / "data").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["", "run", "logs"])
def test_a_folder_that_others_may_write_to_is_refused_with_the_command(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "data" / name
    folder.mkdir(parents=True, mode=0o700)
    (tmp_path / "data").chmod(0o700)
    folder.chmod(0o777)
    with pytest.raises(DataFolderError, match=f"chmod 700 {folder}"):
        prepare(tmp_path / "data")


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = Path("/usr")  # root's
    if os.geteuid() == 0:
        folder = tmp_path / "theirs"
        folder.mkdir()
        os.chown(folder, 65_534, 65_534)
    with pytest.raises(DataFolderError, match="belongs to user"):
        prepare(folder)


@pytest.mark.parametrize("name", ["run", "logs"])
def test_a_link_in_place_of_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataFolderError, match="a link, perhaps"):
        prepare(tmp_path / "data")


def test_a_name_that_no_file_of_settings_can_hold_is_refused(tmp_path: Path) -> None:
    for name in (b"two\nlines", b"latin-1 \xe4"):
        with pytest.raises(DataFolderError, match="choose another --data"):
            prepare(tmp_path / os.fsdecode(name))


def test_no_file_of_the_platform_follows_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    link = tmp_path / "link"
    link.symlink_to(victim)
    (tmp_path / ".link.new").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        files.append(link)
    with pytest.raises(OSError, match="symbolic links"):
        files.overwrite(link, b"x")
    files.replace(link, b"ours")
    assert victim.read_bytes() == b"precious"
    assert (link.read_bytes(), link.is_symlink()) == (b"ours", False)
    assert stat.S_IMODE(link.stat().st_mode) == 0o600


@pytest.mark.parametrize("detach", [(), ("--detach",)])
def test_up_does_not_write_through_a_link_that_somebody_put_there(tmp_path: Path, detach: tuple[str, ...]) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "data" / "logs").mkdir(parents=True)
    for folder in (tmp_path / "data", tmp_path / "data" / "logs"):
        folder.chmod(0o777)
    (tmp_path / "data" / "logs" / "supervisor.log").symlink_to(victim)
    done = up(tmp_path / "data", *detach)
    assert done.returncode == 1
    assert "may be written by other users" in done.stderr
    assert "Traceback" not in done.stderr
    assert victim.read_bytes() == b"precious"


def test_a_read_only_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    said = namespace.run("tests.local.read_only", str(tmp_path / "data"), timeout_s=60)
    assert "is read-only: choose another folder with --data" in said
    assert "Traceback" not in said


def up(data: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "cli.main", "up", "--data", str(data), *more]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
