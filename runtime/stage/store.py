"""What a partition is taken over with, read from Kafka: the newest whole snapshot and the facts it is judged by.

All of it blocks, so it runs in a thread; one `Reader` serves one taking-over.
"""

import logging
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Final

from confluent_kafka import Message

from runtime.errors import RefusedError
from runtime.kafka.log import LogReader
from runtime.settings import KafkaSettings
from runtime.stage import snapshot as form
from runtime.stage.admission import LogFacts, OutputEnd
from runtime.stage.provenance import START, Highest
from runtime.stage.snapshot import Snapshot
from schemas.errors import ContractError
from schemas.headers import Provenance, table

log = logging.getLogger(__name__)
_NEAR: Final = 2
"""Records further apart than this are sought, not read through."""
_MANY: Final = 4
"""So many records in a row are worth fetching ahead."""


class Reader:
    """Reads single records and ranges of partitions, by offset. Not thread-safe. A context manager."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        # one record is wanted, not what follows; larger ones still come whole
        self._log = self._connect(fetch_bytes=1 << 16, ahead_kbytes=1 << 12)
        self._bulk: LogReader | None = None

    def _connect(self, fetch_bytes: int, ahead_kbytes: int) -> LogReader:
        more: dict[str, Any] = {
            "fetch.message.max.bytes": fetch_bytes,
            "queued.max.messages.kbytes": ahead_kbytes,
            "fetch.wait.max.ms": 10,
        }
        return LogReader(self._settings, more=more)

    def _bulk_reader(self) -> LogReader:
        """For much of a partition: what follows is fetched while one record is worked on."""
        if self._bulk is None:
            self._bulk = self._connect(fetch_bytes=8 << 20, ahead_kbytes=64 << 10)
        return self._bulk

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for reader in (self._log, self._bulk):
            if reader is not None:
                reader.close()

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset kept and the next to be written."""
        return self._log.bounds(topic, partition)

    def scan(self, topic: str, partition: int, start: int, end: int) -> Iterator[Message]:
        """Records from `start` on, as far as there are any below `end`."""
        reader = self._bulk_reader() if end - start >= _MANY else self._log
        if start < end:
            end = min(end, reader.bounds(topic, partition)[1])  # a topic that was created again may be shorter
        return reader.records(topic, {partition: (start, end)})

    def one(self, topic: str, partition: int, offset: int) -> Message | None:
        """The record at this offset; None where compaction took it."""
        return next(self.scan(topic, partition, offset, offset + 1), None)

    def some(self, topic: str, partition: int, offsets: Iterable[int]) -> Iterator[Message]:
        """The records at these offsets, ascending; those that compaction took are left out. What lies between two of
        them is read with them where that is cheaper than to seek."""
        wanted = sorted(set(offsets))
        breaks = [n for n in range(1, len(wanted)) if wanted[n] - wanted[n - 1] > _NEAR]
        for begin, end in zip([0, *breaks], [*breaks, len(wanted)], strict=True):
            run = set(wanted[begin:end])
            if run:
                found = self.scan(topic, partition, min(run), max(run) + 1)
                yield from (message for message in found if message.offset() in run)

    def fingerprint(self, topic: str, partition: int, offset: int) -> int | None:
        """Fingerprint of the record at `offset`; None where there is none."""
        found = self.one(topic, partition, offset)
        if found is None:
            return None
        return form.fingerprint(offset, found.timestamp()[1], found.key(), found.value())

    def output_end(self, topic: str, partition: int, since: int) -> OutputEnd:
        """End of an output topic and the furthest provenance from offset `since` on (at least of its last record)."""
        low, end = self.bounds(topic, partition)
        furthest = START
        for message in self.scan(topic, partition, max(low, min(since, end - 1)), end):
            furthest = max(furthest, _provenance(message, topic, partition))
        return OutputEnd(end, furthest)


def _provenance(message: Message, topic: str, partition: int) -> Highest:
    try:
        headers: Any = message.headers()
        found = Provenance.parse(table(headers))
    except ContractError as error:
        raise RefusedError(
            f"record {message.offset()} of {topic}/{partition} was not written by a stage: {error}"
        ) from error
    return Highest(found.epoch, found.src)


def log_facts(
    reader: Reader,
    source: tuple[str, str, int],
    partition: int,
    snapshot: Snapshot | None,
    outputs: tuple[str, ...],
    thorough: bool,
) -> LogFacts:
    """The facts a snapshot is judged by. `source` is (topic, topic id, epoch of telemetry.raw).

    `thorough` reads outputs from where the snapshot knew them, not only their last record: a late record of a zombie
    may stand last and hide how far the outputs really are.
    """
    topic, topic_id, epoch = source
    low, end = reader.bounds(topic, partition)
    before = snapshot.position - 1 if snapshot else -1
    print_before = reader.fingerprint(topic, partition, before) if low <= before < end else None
    written = snapshot.written if snapshot else {}
    ends = {}
    for name in outputs:
        since = written[name].offset if thorough and name in written else 1 << 62
        ends[name] = reader.output_end(name, partition, since)
    return LogFacts(topic, topic_id, epoch, low, end, print_before, ends)
