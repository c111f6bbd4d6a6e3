"""`millrace detect`: files in, alerts out, and bad rows named."""

import csv
import os
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from click.testing import CliRunner, Result

from cli.main import millrace
from runtime.errors import MillraceError

START = datetime(2026, 3, 1, tzinfo=UTC)
SPIKE = 900


def values() -> list[float]:
    """1,000 readings around 20 with one of 90."""
    found = np.random.default_rng(4).normal(20, 1, 1000).round(3)
    found[SPIKE] = 90.0
    return [float(value) for value in found]


def write(file: Path, times: list[str], header: str = "timestamp,value", numbers: list[Any] | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{time},{value}" for time, value in zip(times, numbers or values(), strict=True)]
    file.write_text("\n".join([header, *lines] if header else lines) + "\n")
    return file


def iso(n: int = 1000) -> list[str]:
    return [(START + timedelta(minutes=5 * i)).strftime("%Y-%m-%d %H:%M:%S") for i in range(n)]


def call(*words: object) -> Result:
    done = CliRunner().invoke(millrace, ["detect", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def rows(*words: object) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in call(*words, "--json").stdout.splitlines()]


def refused(*words: object) -> str:
    done = CliRunner().invoke(millrace, ["detect", *map(str, words)], standalone_mode=False)
    assert isinstance(done.exception, MillraceError), done.output
    return str(done.exception)


def test_the_table_shows_the_alert_and_what_was_expected(tmp_path: Path) -> None:
    done = call(write(tmp_path / "a.csv", iso()))
    (line,) = [line for line in done.stdout.splitlines() if iso()[SPIKE] in line]
    assert " 90 " in line and "spike" in line
    low, high = (float(part.split()[i]) for part, i in zip(line.split("…"), (-1, 0), strict=True))
    assert 14 < low < 19 and 21 < high < 26
    assert "in 1,000 rows" in done.stderr


def test_json_has_an_object_a_row_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = rows(write(tmp_path / "a.csv", iso()))
    assert [row["timestamp"] for row in found] == iso()
    assert [row["value"] for row in found] == values()
    assert all(0 <= row["score"] <= 1 for row in found)
    assert found[SPIKE]["alert"] and found[SPIKE]["score"] > 0.6
    assert found[0]["low"] is None and found[SPIKE]["low"] < found[SPIKE]["high"] < 90


def test_several_files_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "folder" / "a.csv", iso())
    write(tmp_path / "folder" / "below" / "b.csv", iso())
    found = rows(tmp_path / "folder")
    assert [row["file"] for row in found] == ["a.csv"] * 1000 + ["below/b.csv"] * 1000
    assert [row["score"] for row in found[:1000]] == [row["score"] for row in found[1000:]]


@pytest.mark.parametrize(
    ("header", "options", "form"),
    [
        ("Time,Value", [], lambda t: t.isoformat()),
        ("ts,value", [], lambda t: str(int(t.timestamp() * 1000))),
        ("timestamp,value", [], lambda t: str(t.timestamp())),
        ("", [], lambda t: t.strftime("%Y-%m-%dT%H:%M:%SZ")),
        ("taken,kwh", ["--time", "taken", "--value", "kWh"], lambda t: t.isoformat()),
    ],
)
def test_times_and_columns_come_in_many_forms(tmp_path: Path, header: str, options: list[str], form: Any) -> None:
    times = [form(START + timedelta(minutes=5 * i)) for i in range(1000)]
    found = rows(write(tmp_path / "a.csv", times, header), *options)
    plain = rows(write(tmp_path / "b.csv", iso()))
    assert [row["score"] for row in found] == [row["score"] for row in plain]


def test_bad_rows_are_named_and_keep_their_place(tmp_path: Path) -> None:
    times, numbers = iso(), list[Any](values())
    numbers[10], numbers[11], numbers[12], times[13] = "abc", "", "inf", "yesterday"
    file = write(tmp_path / "a.csv", times, numbers=numbers)
    done = call(file, "--json")
    found = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 1000
    assert [row["value"] for row in found[10:14]] == [None] * 4
    assert [row["score"] for row in found[10:14]] == [0.0] * 4
    reasons = "'abc' is not a number", "no value", "inf is not finite", "'yesterday' is not a time"
    for line, reason in zip(range(12, 16), reasons, strict=True):
        assert f"{file}:{line}: {reason}" in done.stderr


def test_of_many_bad_rows_the_first_are_named_and_all_are_counted(tmp_path: Path) -> None:
    done = call(write(tmp_path / "a.csv", iso(), numbers=["x"] * 100 + values()[100:]))
    assert done.stderr.count("'x' is not a number") == 20 and "80 more bad rows" in done.stderr


@pytest.mark.parametrize("garbage", [b"", b"\x00\xff\xfe", b"a,b\nc,d\n", b"timestamp\n1\n", b'"', b"1;2,3\n" * 3])
def test_a_file_of_no_use_is_refused_and_the_others_are_judged(tmp_path: Path, garbage: bytes) -> None:
    good, bad = write(tmp_path / "good.csv", iso()), tmp_path / "bad.csv"
    bad.write_bytes(garbage)
    done = CliRunner().invoke(millrace, ["detect", str(bad), str(good)], standalone_mode=False)
    assert isinstance(done.exception, MillraceError) and str(bad) in str(done.exception)
    assert iso()[SPIKE] in done.stdout


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", iso(), "timestamp,kwh,value")
    message = refused(file, "--value", "power")
    assert "no column 'power'" in message and "'timestamp', 'kwh', 'value'" in message
    assert "name both columns" in refused(write(file, iso(), "taken,kwh,note"), "--value", "kwh")


def test_a_higher_threshold_raises_fewer_alerts_on_the_same_scale(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", iso())
    usual, strict, loose = rows(file), rows(file, "--threshold", "0.9"), rows(file, "--threshold", "0.2")
    assert sum(row["alert"] for row in strict) < sum(row["alert"] for row in usual) < sum(row["alert"] for row in loose)
    assert all(row["score"] < 0.9 for row in strict if not row["alert"])
    assert all(row["alert"] == (row["score"] >= 0.2) for row in loose)
    assert strict[SPIKE]["score"] == pytest.approx(usual[SPIKE]["score"], abs=0.05)


def test_out_mirrors_the_folder_with_a_score_a_row(tmp_path: Path) -> None:
    write(tmp_path / "in" / "deep" / "a.csv", iso())
    call(tmp_path / "in", "--out", tmp_path / "out")
    with (tmp_path / "out" / "deep" / "a.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [row["timestamp"] for row in found] == iso()
    assert [float(row["anomaly_score"]) for row in found] == [row["score"] for row in rows(tmp_path / "in")]


def test_files_that_would_be_written_over_each_other_are_refused(tmp_path: Path) -> None:
    files = [write(tmp_path / part / "a.csv", iso()) for part in ("x", "y")]
    assert "a.csv" in refused(*files, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_plot_is_a_picture_with_a_panel_a_file(tmp_path: Path) -> None:
    files = [write(tmp_path / name, iso()) for name in ("a.csv", "b.csv")]
    heights = []
    for given in (files[:1], files):
        picture = tmp_path / f"{len(given)}.png"
        call(*given, "--plot", picture)
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        heights.append(struct.unpack(">I", picture.read_bytes()[20:24])[0])
    assert heights[1] == 2 * heights[0]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", iso())
    (tmp_path / "taken").write_text("a file")
    assert str(tmp_path / "taken" / "out" / "a.csv") in refused(file, "--out", tmp_path / "taken" / "out")
    assert str(tmp_path / "none" / "a.png") in refused(file, "--plot", tmp_path / "none" / "a.png")


def test_a_file_name_that_is_not_utf_8_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in (b"\xff.csv", b"b.csv"):
        write(tmp_path / "in" / os.fsdecode(name), iso())
    assert {row["file"] for row in rows(tmp_path / "in")} == {"?.csv", "b.csv"}
    assert "?.csv" in call(tmp_path / "in").stdout
