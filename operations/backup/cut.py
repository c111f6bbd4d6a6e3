"""Where a backup ends: one raw record of each partition, for all tables that are filled from a topic. Pure.

The sink writes rows first and the ledger after them, range by range, so the ledger names a prefix of the log of which
the tables hold everything. What lies above is left out of every table: then a restored ledger says neither more nor
less than the tables hold, and the sink can go on from it.
"""

from collections.abc import Mapping
from typing import Final

from schemas.topics import PRESENCE, RAW, READINGS
from sinks.stored import sources

Key = tuple[int, int]
"""Epoch and partition of telemetry.raw."""
Cut = Mapping[Key, int]
"""The last raw offset of each that is in."""

LEDGER: Final = ("ledger_received", "ledger_facts", "ledger_derived")
"""Restored last: a restore that was cut off must not claim what is not there."""
_OF: Final = {
    "ledger_received": RAW,
    "ledger_facts": READINGS,
    "presence_newest": PRESENCE,
    **{table: log.topic for log in sources().values() for table in log.tables},
}


def topic_of(table: str) -> str:
    """The topic from which a table with raw offsets is filled. Histories of control records come with readings."""
    return _OF.get(table, READINGS)


def cuts(ends: Mapping[str, Cut]) -> dict[str, Cut]:
    """Where to cut the tables of each topic, given how far the ledger goes for each.

    What is received is cut where its fate is known, readings where they are known to be received, and what is derived
    of them not later. An epoch that is over stays as it is.
    """
    received, facts = ends.get(RAW, {}), ends.get(READINGS, {})
    both = {key: min(received[key], facts[key]) for key in received.keys() & facts.keys()}
    newest = {partition: max(e for e, p in both if p == partition) for _, partition in both}

    def last(key: Key, end: int) -> int:
        epoch, partition = key
        return end if epoch < newest.get(partition, 0) else min(end, both.get(key, -1))

    return {topic: {key: last(key, end) for key, end in own.items()} for topic, own in ends.items()}


def within(cut: Cut) -> str:
    """The condition that a row is in."""
    parts = [
        f"(raw_epoch = {epoch} AND raw_partition = {partition} AND raw_offset <= {end})"
        for (epoch, partition), end in sorted(cut.items())
        if end >= 0
    ]
    return f"({' OR '.join(parts)})" if parts else "false"


def condition(table: str, columns: set[str], cut: Mapping[str, Cut]) -> str:
    """Which rows of a table are in: all where it knows no raw records (hours, which are made of windows)."""
    if "raw_offset" not in columns:
        return "true"
    if table == "ledger_derived":
        own = [
            f"(topic = '{topic}' AND {within(cut[topic])})" for topic in sorted(cut) if sources()[topic].ledger.shared
        ]
        return f"({' OR '.join(own)})" if own else "false"
    return within(cut.get(topic_of(table), {}))
