"""Records that operators told Millrace to skip: `millrace stage skip` (schemas/skips.py)."""

import logging
from collections.abc import Callable, Mapping

from runtime.errors import RetryableError
from schemas.errors import ContractError
from schemas.skips import Skip, Skips
from sinks import metrics
from sinks.core.flow import Flow
from sinks.core.logs import LOGS, Log
from sinks.core.records import Arrival, Entry, UnreadableRecordError

log = logging.getLogger(__name__)


class Orders:
    """`read` at each assignment, `read_again` before an unreadable record stops the sink. Not thread-safe."""

    def __init__(self, read: Callable[[], Skips]) -> None:
        """`read` reads all of them. It blocks, and raises RetryableError."""
        self._read, self._found = read, Skips()

    def read(self) -> None:
        """Raises RetryableError."""
        self._found = self._read()

    def read_again(self) -> None:
        """Keeps what is known where Kafka does not answer."""
        try:
            self.read()
        except RetryableError as error:
            log.warning(
                "orders to skip records cannot be read; those read before stay in force", extra={"error": str(error)}
            )

    def skips(self, flow: Flow, offset: int) -> bool:
        """Whether any stage has an order to skip the record at an offset of a flow's topic."""
        return bool(self._found.of_topic) and offset in self._found.topic(flow.topic, flow.partition, flow.epoch)

    def instead(self, flow: Flow, record: Arrival) -> Entry | None:
        """What a skipped record counts for: itself where the sink can read all of it, for then the ranges that hold it
        are cut as before the order was given."""
        return _instead(LOGS[flow.topic], flow.epoch, flow.where, record)


def reader(
    of: Log, epoch: int, where: str, skips: Mapping[int, Skip] | None = None
) -> Callable[[Arrival], Entry | None]:
    """Reads a log as the sink did, for commands that read it again. `skips`: of this partition, by offset.

    What it returns is None for a skipped record from which nothing follows, and raises UnreadableRecordError for one
    that breaks the contract without being skipped.
    """
    read, skipped = of.reader(epoch, where), skips or {}
    return lambda record: _instead(of, epoch, where, record) if record.offset in skipped else read(record)


def _instead(of: Log, epoch: int, where: str, record: Arrival) -> Entry | None:
    try:
        entry = of.reader(epoch, where)(record)
        if entry.rows > 1:
            of.values(entry.found, entry.value)
    except (UnreadableRecordError, ContractError) as error:
        log.warning(
            "a record is skipped",
            extra={"where": where, "offset": record.offset, "error": str(error.__cause__ or error)},
        )
        metrics.SKIPPED.labels(of.topic).inc()
        return of.skipped(epoch, record)
    return entry
