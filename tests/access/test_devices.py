import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from runtime.columns.devices import NONE, DeviceTable

ids = st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True)


def column(names: list[str]) -> pa.Array:
    """Not at offset 0, as slices of records are not."""
    return pa.array(["zz", *names, "y"], pa.string()).slice(1, len(names))


@given(st.lists(ids, unique=True, max_size=60), st.lists(ids, max_size=20))
def test_devices_are_found_by_the_order_in_which_they_were_added(known: list[str], others: list[str]) -> None:
    table = DeviceTable(4)
    for expected, name in enumerate(known):
        assert table.find_one(name) == NONE
        assert table.add(name) == expected
    asked = known + others
    assert table.find(column(asked)).tolist() == [known.index(n) if n in known else NONE for n in asked]
    assert [table.name(n) for n in range(len(known))] == known
    again = DeviceTable(4)
    again.restore(table.stored())
    assert again.find(column(asked)).tolist() == table.find(column(asked)).tolist()


def test_an_id_is_found_whatever_else_is_in_the_batch() -> None:
    table = DeviceTable()
    for name in ("a", "b" * 8, "c" * 9, "d" * 64):
        table.add(name)
    assert table.find(column(["a"])).tolist() == [0]
    assert table.find(column(["a", "d" * 64, "b" * 8])).tolist() == [0, 3, 1]
    assert table.find(column(["a", "d" * 65, "", "b" * 7])).tolist() == [0, NONE, NONE, NONE]


def test_a_nul_does_not_end_an_id() -> None:
    table = DeviceTable()
    table.add("a")
    assert table.find(column(["a\0", "a", "a\0\0b"])).tolist() == [NONE, 0, NONE]


def test_no_ids_no_numbers() -> None:
    assert DeviceTable().find(pa.array([], pa.string())).tolist() == []


def test_a_quarter_of_a_million_devices() -> None:
    table = DeviceTable()
    names = [f"sensor-{n}" for n in range(250_000)]
    for name in names:
        table.add(name)
    assert (table.find(pa.array(names)) == range(250_000)).all()
    assert (table.find(pa.array([f"other-{n}" for n in range(1000)])) == NONE).all()
