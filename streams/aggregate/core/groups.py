"""Partials of groups out of partials of devices.

They are folded from the devices' partials that are written in the same record, by the labels in force then: so for each
label they add up to those of the devices that have it, whatever moved in between, and a reading costs nothing more.
"""

from typing import Any

import numpy as np

from runtime.columns.arrays import dense, positions
from runtime.columns.keys import KeyTable
from runtime.columns.types import Int32, Int64
from streams.aggregate.core import partials
from streams.aggregate.core.partials import COLUMNS, Rows
from streams.aggregate.core.sketches import entries_of, split, summed


def kinds(*columns: Any) -> Int64:
    """A number for each distinct combination of the columns' values."""
    found = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        known, places = np.unique(column, return_inverse=True)
        found = dense(found * len(known) + places)[1].astype(np.int64)
    return found


def fold(rows: Rows, values: Int32, kind: Int64) -> tuple[Rows, Int64]:
    """(the partials of groups, the first row of each). `rows`: partials with their sketches; `values`: each row's value
    of the label, negative where it has none; rows of one kind and value are one group."""
    member = positions(values >= 0)
    table = KeyTable()
    group = table.number(values[member].astype(np.int64) * (int(kind.max(initial=0)) + 1) + kind[member]).astype(
        np.int64
    )
    found = partials.empty(len(table), COLUMNS)
    leads = np.zeros(len(table), np.int64)
    leads[group[::-1]] = np.arange(len(member))[::-1]
    first = member[leads]
    partials.merge(found, group, leads, {name: rows[name][member] for name in COLUMNS})
    of_row = np.full(len(values), -1)
    of_row[member] = group
    return found | _sketches(rows, of_row, len(table)), first


def _sketches(rows: Rows, group: Int64, groups: int) -> Rows:
    """Those of the rows of each group, added up."""
    of_entry = np.repeat(group, rows["size"])
    there = positions(of_entry >= 0)
    entries = entries_of(of_entry[there], rows["buckets"][there].astype(np.int64))
    order = np.argsort(entries)
    entries, counts = summed(entries[order], rows["counts"][there][order])
    size, buckets = split(entries, np.arange(groups))
    return {"size": size.astype(np.int32), "buckets": buckets.astype(np.int32), "counts": counts}
