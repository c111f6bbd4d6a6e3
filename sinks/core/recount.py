"""Records of a topic against the ledger's rows about them, both in order: neither side is held in memory. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Name = tuple[int, int]
"""Epoch and offset of the raw record that a record comes from."""
Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """The record at `offset` holds `counts`, the ledger's row says `ledger`; None where it has no row."""

    offset: int
    counts: Counts
    ledger: Counts | None


def differences(
    records: Iterable[tuple[int, Name, Counts]], rows: Iterable[tuple[Name, Counts]]
) -> Iterator[Difference]:
    """Compare records (offset, name, counts), in order of offset, with the rows of the ledger, in order of name.

    A record whose name does not rise is a repeat: the sink dropped it. Rows must begin at the name of the first record.
    """
    ledger, highest = iter(rows), (-1, -1)
    row = next(ledger, None)
    for offset, name, counts in records:
        if name <= highest:
            continue
        highest = name
        while row is not None and row[0] < name:
            row = next(ledger, None)
        found = row[1] if row is not None and row[0] == name else None
        if found != counts:
            yield Difference(offset, counts, found)
