import hashlib
import stat
from pathlib import Path

from cli.keys import BRIDGE_CN, make
from schemas.topics import is_device_id


def test_everything_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    first = make(tmp_path, ("localhost",))
    contents = {name: (tmp_path / name).read_bytes() for name in first}
    assert make(tmp_path, ("localhost",)) == []
    assert {name: (tmp_path / name).read_bytes() for name in first} == contents
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in first} == {0o400}


def test_half_of_a_pair_is_made_anew_with_the_other_half(tmp_path: Path) -> None:
    make(tmp_path, ("localhost",))
    (tmp_path / "sink/sink.password").unlink()
    assert sorted(make(tmp_path, ("localhost",))) == ["clickhouse/sink.xml", "sink/sink.password"]
    digest = hashlib.sha256((tmp_path / "sink/sink.password").read_bytes()).hexdigest()
    assert digest in (tmp_path / "clickhouse/sink.xml").read_text()


def test_no_device_can_be_enrolled_as_the_bridge() -> None:
    assert not is_device_id(BRIDGE_CN)
