"""`millrace ledger verify` compares Kafka with the ledger as both are read: memory does not grow with the ledger."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from runtime.clickhouse.client import ClickHouse
from schemas import topics
from sinks.core.recount import Counts, Difference, Name, differences
from sinks.recount import ledger_rows

ROWS = 1_000_000

numbers = st.integers(0, 3)
logs = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), unique=True, max_size=30).map(sorted)


@given(logs, st.data())
def test_each_record_that_the_ledger_knows_otherwise_or_not_at_all_is_found(
    names: list[Name], data: st.DataObject
) -> None:
    """As a dictionary of the whole ledger would find it. Repeats follow what they repeat."""
    records: list[tuple[int, Name, Counts]] = []
    for at, name in enumerate(names):
        for known in [*names[data.draw(st.integers(0, at)) : at], name] if data.draw(st.booleans()) else [name]:
            records.append((len(records), known, (data.draw(numbers),)))
    rows = {name: (data.draw(numbers),) for name in names if data.draw(st.integers(0, 5))}
    expected, seen = [], set()
    for offset, name, counts in records:
        if name not in seen and rows.get(name) != counts:
            expected.append(Difference(offset, counts, rows.get(name)))
        seen.add(name)
    assert list(differences(records, sorted(rows.items()))) == expected


def test_a_ledger_of_a_million_records_is_read_without_holding_it(db: ClickHouse) -> None:
    db.command(
        "INSERT INTO ledger_received"
        " (raw_epoch, raw_partition, raw_offset, kind, received, platform, replayed, append_time)"
        f" SELECT 0, 0, number, 'data', number % 7, 0, 0, now() FROM numbers({ROWS})"
    )
    tracemalloc.start()
    try:
        rows = ledger_rows(db, topics.RAW, 0, 0, (0, 5))
        for count, (name, counts) in enumerate(rows, start=5):
            assert (name, counts) == ((0, count), (count % 7, 0, 0))
        assert count == ROWS - 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60 << 20, "a dictionary of these rows takes 300 MB"
