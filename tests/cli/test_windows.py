"""`millrace windows check`; publishing and showing are tested with the detectors (tests/anomaly/test_commands.py)."""

from pathlib import Path

from click.testing import CliRunner

from cli.main import millrace


def test_a_file_of_windows_is_checked_and_every_mistake_is_named(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("window_s: 60\ngroups: [role, site]\n")
    bad.write_text("window_s: -1\ngroups: 7\nwindw: 3\n")
    done = CliRunner().invoke(millrace, ["windows", "check", str(good)])
    assert (done.exit_code, done.output) == (0, f"{good}: of 60 s, with sketches, groups by role, site\n")
    done = CliRunner().invoke(millrace, ["windows", "check", str(bad)])
    assert done.exit_code == 1
    assert "3 mistakes; nothing was changed" in done.output
    assert [line.split(":")[1] for line in done.output.splitlines()[:3]] == ["1", "2", "3"]
