"""A rebuild from its beginning to its end. The order of its steps keeps rows from being lost or duplicated while the
sink goes on writing.

Until the swap the sink writes into the old table alone, and what was read of the log ends where its ledger ends: all
later rows are only in the old one. The swap is atomic. After it the sink writes into the new table, but an insert that
began before may still end in the old one: so rows that the new one lacks are copied at once, and again when the ledger,
whose rows follow those of the table, is past everything that could have been under way.
"""

from dataclasses import dataclass
from typing import Final

from operations.progress import Report, Step, silent
from operations.rebuild.work import Rebuild
from runtime.clickhouse.settings import ClickHouseSettings
from runtime.errors import RefusedError
from runtime.kafka import topics
from runtime.settings import KafkaSettings
from sinks.stored import refuse_cluster, source_of, sources

TABLES: Final = tuple(table for source in sources().values() for table in source.tables)
"""Those that can be rebuilt."""


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """`rows` of the table now: `copied` of the old one, since Kafka no longer holds their records, `read` of the topic,
    and what came meanwhile. `aside`: the table that was replaced, empty where it was dropped."""

    table: str
    rows: int
    copied: int
    read: int
    aside: str


def rebuild(
    kafka: KafkaSettings,
    clickhouse: ClickHouseSettings,
    table: str,
    *,
    again: bool = False,
    drop: bool = False,
    report: Report = silent,
) -> RebuildResult:
    """Build a table again from what Kafka holds of its topic, and swap it in, while the platform works.

    `again`: drop what an earlier rebuild left. `drop`: drop the replaced table at the end.
    Raises RefusedError and RetryableError; the table that is in use is whole at every moment.
    """
    source = source_of(table)
    if source is None:
        raise RefusedError(
            f"{table} cannot be rebuilt, it is not filled from a topic: {', '.join(TABLES)} can be rebuilt"
        )
    work = Rebuild(clickhouse, kafka, table, source, topics.facts(kafka, source.topic)[source.topic])
    try:
        refuse_cluster(work.db, "millrace rebuild swaps tables of one server")
        result = _rebuild(work, again, report)
        if drop:
            work.drop(work.aside)
    finally:
        work.close()
    return RebuildResult(table, *result, "" if drop else work.aside)


def _rebuild(work: Rebuild, again: bool, report: Report) -> tuple[int, int, int]:
    left = work.left_over()
    if left and not again:
        raise RefusedError(f"{', '.join(left)}: left by an earlier rebuild; --again drops it")
    for name in left:
        work.drop(name)
    work.begin()
    copied = work.copy_older()
    report(Step(f"{work.table}: copied, whose records Kafka no longer holds", copied))
    read = work.follow()
    report(Step(f"{work.table}: read of {work.log.topic}", read))
    work.swap()
    work.copy_newer()
    work.wait_for_the_sink()
    work.copy_newer()
    return work.rows(), copied, read
