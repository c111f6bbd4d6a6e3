"""Rows for a terminal: nothing is cut, nothing is rounded."""

from rich.cells import cell_len

from cli.grid import render

LONG = "x" * 60


def test_a_table_that_fits_is_a_table() -> None:
    rows = [["sensor-1", "63100.68"], ["sensor-22", "7"]]
    assert render(["device", "value"], [False, True], rows, 80).splitlines() == [
        "device        value",
        "sensor-1   63100.68",
        "sensor-22         7",
    ]


def test_a_table_that_is_too_wide_is_a_line_a_value_and_no_cell_is_cut() -> None:
    shown = render(["device", "reason"], [False, False], [["a", LONG], ["b", "short"]], 40)
    assert shown.splitlines() == [
        "Row 1:", "─" * 8, "device  a", f"reason  {LONG}", "", "Row 2:", "─" * 8, "device  b", "reason  short",
    ]  # fmt: skip


def test_a_value_never_breaks_out_of_its_line_or_drives_the_terminal() -> None:
    shown = render(["a"], [False], [["x\ny\tz\x1b[31mred\x07"]], 80)
    assert shown == "a\nx\\ny\\tz[31mred"


def test_wide_characters_keep_columns_in_line() -> None:
    lines = render(["a", "b"], [False, False], [["温度", "1"], ["t", "2"]], 80).splitlines()
    assert [cell_len(line) for line in lines] == [7, 7, 7]


def test_no_rows_show_the_names() -> None:
    assert render(["device", "value"], [False, True], [], 80) == "device  value"
