"""Records that operators told Millrace to skip: `millrace stage skip` (schemas/skips.py)."""

import logging
from collections.abc import Callable

from runtime.errors import RetryableError
from schemas.errors import ContractError
from schemas.skips import Skips
from sinks import metrics
from sinks.core.flow import Flow
from sinks.core.logs import LOGS
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
        of = LOGS[flow.topic]
        try:
            entry = of.reader(flow.epoch, flow.where)(record)
            if entry.rows > 1:
                of.values(entry.found, entry.value)
        except (UnreadableRecordError, ContractError) as error:
            log.warning(
                "a record is skipped",
                extra={"where": flow.where, "offset": record.offset, "error": str(error.__cause__ or error)},
            )
            metrics.SKIPPED.labels(flow.topic).inc()
            return of.skipped(flow.epoch, record)
        return entry
