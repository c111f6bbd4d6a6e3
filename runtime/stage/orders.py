"""Operators' orders to a stage: records to skip, and partitions to reset. Asked at each assignment, and before a record
that cannot be read stops the worker."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from runtime.errors import FatalError, RefusedError, RetryableError
from runtime.stage.admission import Options
from runtime.stage.contract import Record, Skippable, Stage
from schemas.errors import NewerSchemaError
from schemas.skips import FROM_OLDEST, SKIP_LOST, Skip, Skips

log = logging.getLogger(__name__)
ReadOrders = Callable[[], Skips]
"""Reads all of them. Blocks; raises RetryableError."""


class Orders:
    """Those of one stage, whose source has `epoch` and whose snapshot topic has `state_id`. `refresh` runs in a thread
    while no record is applied; everything else on the event loop."""

    def __init__(self, stage: Stage, epoch: int, read: ReadOrders = Skips, state_id: str = "") -> None:
        self._stage, self._epoch, self._read, self._state_id = stage, epoch, read, state_id
        self.skips: Mapping[int, Mapping[int, Skip]] = {}
        """By partition and offset; empty as a rule."""

    def read(self) -> Skips:
        """As they are now. Blocks."""
        return self._read()

    def take(self, found: Skips, partitions: set[int]) -> None:
        """They are in force for these partitions."""
        each = {partition: found.stage(self._stage.name, partition, self._epoch) for partition in partitions}
        self.skips = {partition: skips for partition, skips in each.items() if skips}

    def options(self, found: Skips, partition: int, manifest: int, given: Options) -> Options:
        """The options for taking a partition over whose newest manifest is at this offset (-1: there is none)."""
        reset = found.resets.get((self._stage.name, partition))
        if reset is None or reset.topic_id != self._state_id or manifest >= reset.below:
            return given
        log.warning("reset", extra={"partition": partition, "mode": reset.mode, "reason": reset.reason})
        return replace(
            given,
            from_oldest=given.from_oldest or reset.mode == FROM_OLDEST,
            skip_lost=given.skip_lost or reset.mode == SKIP_LOST,
        )

    def instead(self, record: Record, skip: Skip) -> Record | None:
        """What is applied in place of a skipped record; None: nothing."""
        where = {"partition": record.partition, "offset": record.offset, "reason": skip.reason}
        log.warning("a record is skipped", extra=where)
        return self._stage.skipped(record, skip.reason) if isinstance(self._stage, Skippable) else None

    def unreadable(self, where: str, partition: int, offset: int, error: Exception) -> FatalError:
        """The error to stop with for a record that cannot be read. Blocks."""
        try:
            skipped = offset in self._read().stage(self._stage.name, partition, self._epoch)
        except RetryableError:
            skipped = False
        if skipped:
            return FatalError(f"{where} is to be skipped; loading again from the snapshot")
        if isinstance(error, NewerSchemaError):
            return RefusedError(f"{where}: {error}: install this stage's newer release, then `millrace restart`")
        return RefusedError(
            f"{where} breaks the contract: {error}. If no service of Millrace wrote it, skip it: `millrace stage"
            f" skip {self._stage.name} --partition {partition} --offset {offset} --reason '...'`, then"
            f" `millrace restart {self._stage.name}`"
        )
