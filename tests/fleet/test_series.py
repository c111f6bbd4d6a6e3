"""Files of the past: what is a row, what is none, and what a file's device is called."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.fleet.series import SeriesError, device_ids, find, read
from schemas.topics import is_device_id

T2014 = 1_396_310_400_000
CASES = {
    "names": ("timestamp,value\n2014-04-01 00:00:00,20.5\n", [(T2014, 20.5)]),
    "no names": ("2014-04-01T00:00:00Z,1\n2014-04-01T00:05:00Z,2\n", [(T2014, 1.0), (T2014 + 300_000, 2.0)]),
    "other order": ("value,site,time\n7,north,1970-01-01T00:00:01+00:00\n", [(1000, 7.0)]),
    "other names": ("Time,temperature\n0,7\n", [(0, 7.0)]),
    "offset": ("timestamp,value\n1970-01-01T02:00:00+02:00,1\n", [(0, 1.0)]),
    "before 1970": ("timestamp,value\n1969-12-31T23:59:59.999Z,1\n", [(-1, 1.0)]),
    "microseconds": ("timestamp,value\n1970-01-01T00:00:00.001999Z,1\n", [(1, 1.0)]),
    "seconds": ("timestamp,value\n1396310400,1\n1396310400.25,2\n", [(T2014, 1.0), (T2014 + 250, 2.0)]),
    "milliseconds": ("timestamp,value\n1396310400123,1\n", [(1_396_310_400_123, 1.0)]),
    "semicolons": ("timestamp;value\n0;1\n", [(0, 1.0)]),
    "tabs": ("timestamp\tvalue\n0\t1\n", [(0, 1.0)]),
    "quotes": ('"timestamp","value"\n"0","1"\n', [(0, 1.0)]),
    "mark and line ends": ("\ufefftimestamp,value\r\n0,1\r\n\r\n1,2\r\n", [(0, 1.0), (1000, 2.0)]),
    "no end of line": ("timestamp,value\n0,1", [(0, 1.0)]),
    "repeats": ("timestamp,value\n0,1\n0,1\n0,2\n", [(0, 1.0), (0, 1.0), (0, 2.0)]),
    "all digits": ("timestamp,value\n0,18.324518539200002\n1,5e-324\n", [(0, 18.324518539200002), (1000, 5e-324)]),
    "minus zero": ("timestamp,value\n0,-0.0\n", [(0, 0.0)]),
}


@pytest.mark.parametrize("name", CASES)
def test_rows(name: str, tmp_path: Path) -> None:
    text, rows = CASES[name]
    file = tmp_path / "a.csv"
    file.write_bytes(text.encode())
    found = read(file, "a")
    assert [(time, repr(value)) for time, value in found.rows] == [(time, repr(value)) for time, value in rows]
    assert found.skipped == 0


def test_rows_without_a_value_are_counted_and_left_out(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("timestamp,value\n0,1\n1,\n2,NaN\n3,4\n")
    found = read(file, "a")
    assert found.rows == ((0, 1.0), (3000, 4.0))
    assert found.skipped == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timestamp,value\n0,1\nyesterday,2\n", "a.csv:3: 'yesterday' is not a time"),
        ("timestamp,value\n0,one\n", "a.csv:2: 'one' is not a number"),
        ("timestamp,value\n0,inf\n", "a.csv:2: inf is infinite"),
        ("timestamp,value\n0,1e300\n", "a.csv:2: 1e300 is infinite or beyond"),
        ("timestamp,value\n0\n", "a.csv:2: expected a time and a value, found 1 columns"),
        ("timestamp,value\nnan,1\n", "a.csv:2: 'nan' is not a time"),
        ("timestamp,value\n", "no row with a time and a value"),
        ("", "no row with a time and a value"),
    ],
)
def test_what_is_no_row_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(text)
    with pytest.raises(SeriesError, match=message):
        read(file, "a")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"timestamp,value\n0,\xff\n")
    with pytest.raises(SeriesError, match=r"a\.csv"):
        read(file, "a")


def test_names_become_device_ids() -> None:
    names = ["realTweets/Twitter_volume_AAPL.csv", "iio_us-east-1_i-a2eb1cd9_NetworkIn.csv", "ü.csv", "", "x" * 90]
    found = device_ids(names)
    assert found[:2] == ["realtweets-twitter-volume-aapl", "iio-us-east-1-i-a2eb1cd9-networkin"]
    assert len(set(found)) == 5
    assert found[4].startswith("xxx")
    assert len(found[4]) == 64


def test_names_that_would_be_the_same_stay_apart_whatever_their_order() -> None:
    one, other = device_ids(["a_b.csv", "a-b.csv"])
    assert one != other
    assert device_ids(["a-b.csv", "a_b.csv"]) == [other, one]


@given(st.lists(st.text(max_size=100), unique=True, max_size=6))
def test_any_names_give_different_device_ids(names: list[str]) -> None:
    found = device_ids(names)
    assert len(set(found)) == len(names)
    assert all(map(is_device_id, found))


def test_files_are_found_in_folders_and_once(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.csv", "deep/a.csv", "notes.txt"):
        (folder / name).write_text("0,1\n")
    assert [name for _, name in find([folder])] == ["b.csv", "deep/a.csv"]
    assert len(find([folder, folder / "b.csv"])) == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SeriesError, match="no such file"):
        find([tmp_path / "nothing"])
    with pytest.raises(SeriesError, match="no CSV file"):
        find([empty])
